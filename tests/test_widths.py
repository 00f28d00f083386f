# amaranth: UnusedElaboratable=no
"""No accepted configuration has more inputs than Amaranth can number: 2^16 bits of a design's together."""

import random

import pytest
from amaranth.lib.wiring import Component, In

from nomul.bus.axi import AxiCore
from nomul.catalog import configure
from nomul.cores.discover import cores
from nomul.errors import InputError
from nomul.sim.draw import draw_config


@pytest.mark.parametrize(
    ("engine", "settings", "sentence"),
    [
        ("baseline", ("lanes_in=512", "rows=32", "product=whole"), "'rows' is 32; allowed: at most 14"),
        ("bwta", ("lanes_in=2048", "rows=64"), "'rows' is 64; allowed: at most 23"),
        ("tlmm", ("tables=256", "fill_units=1", "rows=256"), "'rows' is 256; allowed: at most 50"),
        ("tint", ("lanes_in=512", "rows=200", "weights=dense", "weight_lanes=4"), "'rows' is 200; allowed: at most 59"),
        ("boothflex", ("lanes_in=512", "rows=256"), "'rows' is 256; allowed: at most 11"),
        ("boothflex_bs", ("lanes_in=512", "rows=256"), "'rows' is 256; allowed: at most 59"),
        ("mixpe", ("lanes_in=512", "rows=256", "group=0"), "'rows' is 256; allowed: at most 31"),
        ("mixpe_fp16", ("lanes_in=256", "rows=256", "group=256"), "'rows' is 256; allowed: at most 59"),
        ("bwta_attention", ("lanes_in=2048", "rows=256"), "'rows' is 256; allowed: at most 11"),
    ],
)
def test_streams_that_are_too_wide_are_refused_at_once(engine, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        configure(engine, settings)


@pytest.mark.parametrize("name", cores())
def test_what_is_accepted_can_be_printed(name):
    dice = random.Random(name)
    for _ in range(3):
        config = draw_config(cores()[name].gateware.config, dice, large=0.6)
        assert sum(port.width + 1 for port in config.inputs) + 8 < 1 << 16, config
        for padded in (False, True):
            pins = AxiCore(Component({}), config, 1, padded=padded)
            inputs = [member.flow is In and len(value) for _, member, value in pins.signature.flatten(pins)]
            assert sum(inputs) + 8 < 1 << 16, config
