"""MixPE's configuration, recodings, weight stream, integer scales, and its golden model against plain torch."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nomul.arith.recoding import RECODINGS, recoding
from nomul.catalog import choose_variant, configure
from nomul.cli import cli
from nomul.commands.grouped import grouped_product
from nomul.cores.mixpe import layout as mixpe_layout
from nomul.engines.mixpe import MixpeConfig
from nomul.errors import InputError
from nomul.formats import mixpe
from nomul.formats.int4 import Int4Layer
from nomul.golden.mixpe import matmul
from nomul.quantize.mixpe import from_int4, integer_scales


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes_in": 0}, r"MixpeConfig field 'lanes_in' is 0; allowed: 1 to 512"),
        ({"group": 40}, r"field 'group' is 40; allowed: a multiple of lanes_in = 16 up to n_in_max = 4096, or 0"),
        ({"group": 8192}, r"field 'group' is 8192; allowed: a multiple of lanes_in = 16 up to n_in_max = 4096, or 0"),
        ({"lanes_in": 32, "group": 32, "n_in_max": 16}, r"field 'lanes_in' is 32; allowed: at most n_in_max = 16"),
        ({"fold": 3}, r"field 'fold' is 3; allowed: a divisor of rows = 8"),
        ({"fold": 2, "group": 48}, r"field 'group' is 48; allowed: a multiple of lanes_in \* fold = 32 up to"),
        ({"load_lanes": 3}, r"field 'load_lanes' is 3; allowed: a divisor of lanes_in = 16"),
        ({"total_bits": 31}, r"field 'total_bits' is 31; allowed: 32 or more, for sums of n_in_max = 4096"),
        ({"recoding": "ternary"}, r"field 'recoding' is 'ternary'; allowed: digits, ent, booth4, binary"),
        ({"codes": "uint4"}, r"field 'codes' is 'uint4'; allowed: signed, unsigned"),
        (
            {"weight": "ternary", "codes": "unsigned"},
            r"field 'codes' is 'unsigned'; allowed: signed, for weight = tern",
        ),
        ({"scale_bits": 17}, r"field 'scale_bits' is 17; allowed: 1 to 16"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixpeConfig(**fields)


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("name", RECODINGS)
def test_digits_add_up_to_the_code_less_the_offset(name: str, bits: int) -> None:
    recoded = recoding(name, bits)
    for code in range(1 << bits):
        digits = [digit.values[code >> digit.low & (1 << digit.bits) - 1] << digit.shift for digit in recoded.digits]
        assert sum(digits) == code - recoded.offset


@pytest.mark.parametrize("name", RECODINGS)
@pytest.mark.parametrize(("bits", "tables"), [(4, mixpe.DIGITS), (2, mixpe.TERNARY_DIGITS)])
def test_packer_and_engine_read_the_same_digits(name: str, bits: int, tables: dict) -> None:
    offset, digits = tables[name]
    recoded = recoding(name, bits)
    assert offset == recoded.offset
    assert digits.keys() == {digit.shift for digit in recoded.digits}
    for digit in recoded.digits:
        assert digits[digit.shift] == tuple(
            digit.values[code >> digit.low & (1 << digit.bits) - 1] for code in range(1 << bits)
        )


def test_a_recoding_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^recoding 'ent' of 3 bits does not exist; it is one of digits, ent, booth4"):
        recoding("ent", 3)


@pytest.mark.parametrize(
    ("lanes", "rows", "group", "units", "turn"),
    [
        (16, 8, 128, 1, 8),
        (16, 16, 128, 2, 8),
        (16, 8, 32, 4, 2),
        (16, 8, 80, 2, 4),
        (16, 6, 64, 2, 3),
        (16, 8, 0, 1, 8),
    ],
)
def test_scale_units_keep_up_with_the_groups(lanes: int, rows: int, group: int, units: int, turn: int) -> None:
    config = MixpeConfig(lanes_in=lanes, rows=rows, group=group)
    assert (config.scale_units, config.turn) == (units, turn)
    assert config.block_steps(1) >= turn


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_stream_gives_the_product(data: st.DataObject) -> None:
    lanes = data.draw(st.sampled_from([3, 4, 8, 16]), "lanes")
    group = data.draw(st.sampled_from([0, lanes, 2 * lanes, 5 * lanes]), "group")
    weight = data.draw(st.sampled_from(["int4", "int4", "ternary"]), "weight")
    codes = "signed" if weight == "ternary" else data.draw(st.sampled_from(["signed", "unsigned"]), "codes")
    fold = data.draw(st.sampled_from([1, 2, 3]), "fold")
    group *= fold
    config = MixpeConfig(
        lanes_in=lanes, rows=fold * data.draw(st.sampled_from([1, 2, 3, 8])), fold=fold, group=group,
        codes=codes, weight=weight,
        recoding=data.draw(st.sampled_from(RECODINGS)), scale_bits=data.draw(st.integers(1, 9)),
        target=data.draw(st.sampled_from(["portable", "cells"])), n_in_max=240, n_out_max=64,
    )  # fmt: skip
    n_in, n_out = data.draw(st.integers(1, 150), "n_in"), data.draw(st.integers(1, 20), "n_out")
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    low, size = (-8 if codes == "signed" else 0), group or n_in
    high = low + 16
    if weight == "ternary":
        low, high = -1, 2
    parts = (n_out, -(-n_in // size))
    operands = mixpe.GroupQuantized(
        torch.randint(low, high, (n_out, n_in), generator=random).to(torch.int8),
        torch.randint(low, high, parts, generator=random),
        torch.randint(0, 1 << config.scale_bits, parts, generator=random),
        size,
    )
    activations = torch.randint(-128, 128, (2, n_in), generator=random)
    layout = mixpe_layout(config)
    transfers = mixpe.pack(operands, layout)
    assert transfers.shape == (config.weight_transfers(n_in, n_out), -(-config.weight_width // 8))
    said = matmul(*mixpe.unpack(transfers, layout), activations, n_out, layout)
    group_of = torch.arange(n_in) // size
    matrix = (operands.codes.long() - operands.zeros[:, group_of]) * operands.scales[:, group_of]
    assert torch.equal(said, activations @ matrix.T)


OPERANDS = mixpe.GroupQuantized(torch.tensor([[7, -8]], dtype=torch.int8), torch.tensor([[1]]), torch.tensor([[9]]), 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group": 1}, r"^the weights have groups of 2; this engine's group is 1; set group to 2$"),
        ({"codes": "unsigned"}, r"^a code is -8; this engine takes 0 to 15; set codes to signed$"),
        ({"weight": "ternary"}, r"^a code is -8; this engine takes -2 to 1; set weight to int4$"),
        ({"scale_bits": 3}, r"^a scale is 9; this engine takes 0 to 7 \(scale_bits = 3\)$"),
    ],
)
def test_operands_that_the_engine_does_not_take_are_refused(fields: dict, message: str) -> None:
    config = MixpeConfig(**{"lanes_in": 1, "group": 2, "rows": 1, "n_in_max": 8, "n_out_max": 8} | fields)
    with pytest.raises(InputError, match=message):
        mixpe.pack(OPERANDS, mixpe_layout(config))


def test_operands_that_do_not_fit_are_refused() -> None:
    codes, zeros, scales = OPERANDS.codes, OPERANDS.zeros, OPERANDS.scales
    with pytest.raises(InputError, match=r"^the zeros have shape \[1, 1\]; 2 inputs in groups of 1 need \[1, 2\]$"):
        mixpe.GroupQuantized(codes, zeros, scales, 1)
    with pytest.raises(InputError, match=r"^the scales have shape \[2, 1\]; 2 inputs in groups of 2 need \[1, 1\]$"):
        mixpe.GroupQuantized(codes, zeros, torch.ones(2, 1), 2)
    with pytest.raises(InputError, match=r"need a group of 1 or more$"):
        mixpe.GroupQuantized(codes, zeros, scales, 0)
    with pytest.raises(InputError, match=r"^the codes reach from -8 to 8; allowed: -8 to 7 or 0 to 15$"):
        mixpe.GroupQuantized(torch.tensor([[-8, 8]]), zeros, scales, 2)
    with pytest.raises(InputError, match=r"^a scale is -9; allowed: 0 or more$"):
        mixpe.GroupQuantized(codes, zeros, -scales, 2)


def test_scales_become_integers_under_one_scale_a_channel() -> None:
    integer, channel = integer_scales(torch.tensor([[0.5, 0.25, 0.001], [0.0, 0.0, 0.0]]), 8)
    assert integer.tolist() == [[255, 128, 1], [0, 0, 0]]
    assert channel.tolist() == [0.5 / 255, 0.0]
    real = torch.rand(50, 7) + 0.01
    integer, channel = integer_scales(real, 8)
    assert (integer * channel[:, None] - real).abs().max() <= 0.5001 * channel.max()
    with pytest.raises(InputError, match=r"^the group scale at \[0, 1\] is -1.0; allowed: 0 or more, finite$"):
        integer_scales(torch.tensor([[1.0, -1.0]]), 8)


def test_an_int4_layer_keeps_its_codes_and_zero_points() -> None:
    layer = Int4Layer(
        "x", torch.tensor([[0, 15, 3, 4]], dtype=torch.uint8), torch.tensor([[8, 1]], dtype=torch.uint8),
        torch.tensor([[0.5, 0.25]]), 2,
    )  # fmt: skip
    operands, channel = from_int4(layer)
    assert (operands.codes.tolist(), operands.zeros.tolist(), operands.scales.tolist()) == (
        [[0, 15, 3, 4]], [[8, 1]], [[255, 128]],
    )  # fmt: skip
    near = operands.dequantise() * channel[:, None]
    assert (near - layer.dequantise()).abs().max() < 15 * 0.5 * channel.max()


def int4_file(folder: Path, method: str, act_order: bool = False) -> Path:
    """Write a layer of 24 outputs, 64 inputs and groups of 32, in the layout of a method."""
    random = torch.Generator().manual_seed(5)

    def words(rows: int, columns: int) -> torch.Tensor:
        return torch.randint(0, 2**31, (rows, columns), generator=random).to(torch.int32) & 0x77777777

    order = torch.arange(64) // 32
    tensors = {
        "up.qweight": words(8, 24) if method == "gptq" else words(64, 3),
        "up.qzeros": words(2, 3),
        "up.scales": torch.rand(2, 24, generator=random) + 0.01,
    }
    if method == "gptq":
        tensors["up.g_idx"] = (order.flip(0) if act_order else order).to(torch.int32)
    save_file(tensors, folder / "model.safetensors")
    config = {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 32}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.bench
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_check_runs_layers_of_int4_checkpoints(tmp_path: Path, method: str) -> None:
    small = ["--set", "lanes_in=8", "--set", "rows=4", "--set", "n_in_max=64", "--set", "n_out_max=24"]
    arguments = ["check", "mixpe", "--checkpoint", str(int4_file(tmp_path, method)), "--layer", "up", "--json"]
    said = CliRunner().invoke(cli, [*arguments, *small, "--tokens", "2"])
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)
    assert (figures["mismatches"], figures["outputs"], figures["group"]) == (0, 48, 32)
    assert figures["cycles"] == figures["model_cycles"]


def test_check_refuses_act_order_in_one_sentence(tmp_path: Path) -> None:
    folder = int4_file(tmp_path, "gptq", act_order=True)
    said = CliRunner().invoke(cli, ["check", "mixpe", "--checkpoint", str(folder)], catch_exceptions=True)
    assert isinstance(said.exception, InputError)
    assert "g_idx reorders the inputs (act-order, desc_act), which is not supported" in str(said.exception)


def test_check_refuses_a_model_without_groups() -> None:
    from nomul.model import checkpoints

    said = CliRunner().invoke(cli, ["check", "mixpe", "--checkpoint", str(checkpoints.path("tiny"))])
    assert "is a ternary model, without weights in groups; give a checkpoint of INT4 or" in str(said.exception)


@pytest.mark.parametrize(
    ("settings", "engine", "left"),
    [
        ((), "mixpe", ()),
        (("weight=int4", "activation=int8", "rows=4"), "mixpe", ("rows=4",)),
        (("activation=fp16", "rows=4"), "mixpe_fp16", ("rows=4",)),
        (("weight=ternary",), "mixpe", ("weight=ternary",)),
    ],
)
def test_two_fields_choose_the_form(settings: tuple, engine: str, left: tuple) -> None:
    chosen, rest, form = choose_variant("mixpe", settings)
    assert (chosen, rest) == (engine, left)
    assert form.keys() == {"weight", "activation"}
    configure(chosen, rest)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("activation=int4",), r"^field 'activation' of mixpe is 'int4'; allowed: int8, fp16$"),
        (("weight=fp4",), r"^field 'weight' of mixpe is 'fp4'; allowed: int4, ternary$"),
        (("weight=ternary", "activation=fp16"), r"^field 'weight' of mixpe is 'ternary'; with activation = 'fp16' "),
    ],
)
def test_forms_that_do_not_exist_are_refused(settings: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_variant("mixpe", settings)


def test_power_stands_on_a_layer_in_whole_groups() -> None:
    config = MixpeConfig()
    product, whole = (grouped_product(config, 2, whole=whole) for whole in (False, True))
    assert product.weight.shape == whole.weight.shape == (160, 384)
    assert product.weight.group == 128
    assert torch.equal(product.activations, whole.activations)
    real = product.weight.dequantise().double().flatten()
    assert torch.corrcoef(torch.stack([real, whole.weight.double().flatten()]))[0, 1] > 0.8
