"""What `nomul check` and `nomul pack` have a core work on: a layer of a checkpoint, vectors of a file, random jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nomul.catalog import parse_setting
from nomul.commands.grouped import choose_grouped
from nomul.commands.operands import choose_operands, load_activations
from nomul.commands.wanted import Named, Wanted
from nomul.cores.discover import find_core
from nomul.errors import InputError
from nomul.formats.job import Job
from nomul.model import checkpoints
from nomul.sim.check import random_jobs
from nomul.sim.product import Product

__all__ = ["Chosen", "choose_jobs"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A configuration, jobs for it, and where they come from."""

    config: Any
    jobs: Sequence[Job | Product]
    source: str
    """In words."""

    facts: dict[str, Any] = field(default_factory=dict)
    """The same as JSON."""


def choose_jobs(named: Named, wanted: Wanted) -> Chosen:
    """Return what a core is to work on; the fields of a layer in groups are the layer's, unless settings say otherwise.

    Raises
    ------
    InputError
        If the settings, the checkpoint or the vectors do not fit the core, or an option does not go with it.
    """
    core = named.engine
    found = find_core(core)
    if not found.multiplies:
        return _without_weights(named, wanted)
    fields = dict(parse_setting(core, setting) for setting in named.settings)
    if found.in_groups(fields):
        layer, config, product, source = choose_grouped(named, wanted)
        name, what = layer.name, f"in groups of {layer.operands.group}, with integer scales"
        more = {
            "group": layer.operands.group, "group_scales": layer.operands.scales.numel(),
            "scale_bits": layer.scale_bits, "scales_lost": layer.lost,
        }  # fmt: skip
    else:
        config, more = named.configure(), {}
        operands = choose_operands(
            core, config, wanted.checkpoint or checkpoints.path(), wanted.layer, wanted.mode, wanted.vectors,
        )  # fmt: skip
        product = Product(operands.weight, operands.activations, operands.mode)
        name, what, source = operands.layer, operands.weight_source, operands.activation_source
    mode = config.modes[product.mode].name
    facts = {"mode": mode, "layer": name, "weights": what, "activations": source, **more}
    facts |= {size: product.fields[size] for size in ("n_in", "n_out", "tokens")}
    return Chosen(config, [product], f"mode {mode} on {name}; weights: {what}; activations: {source}", facts)


def _without_weights(named: Named, wanted: Wanted) -> Chosen:
    """Return random jobs, or one of vectors from a file, for a core that has no weights."""
    given = {name: getattr(wanted, name) for name in ("checkpoint", "layer", "mode", "prompt")}
    for option, value in given.items():
        if value is not None:
            what = "modes" if option == "mode" else "weights"
            raise InputError(f"--{option} is {str(value)!r}, but {named.engine} has no {what}; leave it out")
    core, config, file = named.engine, named.configure(), wanted.activations
    vectors = find_core(core).vectors
    if file is None:
        jobs = random_jobs(core, config, wanted.tokens, wanted.seed)
        return Chosen(config, jobs, f"{wanted.tokens} random jobs, seed {wanted.seed}")
    if vectors is None:
        raise InputError(f"--activations is {str(file)!r}, but {core} takes random jobs only; leave it out")
    return Chosen(config, [vectors(config, load_activations(file))], str(file))
