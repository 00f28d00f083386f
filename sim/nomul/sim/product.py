"""A product of a matrix and vectors as a job of a core, and what plain PyTorch says of it."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.catalog import pack_activations, pack_weights
from nomul.cores.discover import find_core
from nomul.draw import Draw
from nomul.errors import InputError
from nomul.formats.job import Job, Words
from nomul.formats.mixpe import GroupQuantized
from nomul.sim.grouped import random_groups

__all__ = ["Product", "expect", "fits", "oracle", "padded", "product_job", "random_product", "rows_beyond"]


@dataclasses.dataclass(frozen=True)
class Product:
    """Weights [n_out, n_in] and activations [tokens, n_in], in one of a core's modes.

    Both are integers, weights int8; in a format 'fp16' they are bit patterns as numbers of 16 bits, two's complement.
    In place of a matrix of weights there may be what stands for one: something with a `shape` that can `dequantise`
    itself to integers, as `nomul.formats.mixpe.GroupQuantized`.
    """

    weight: Tensor | GroupQuantized
    activations: Tensor
    mode: int = 0

    def __post_init__(self) -> None:
        """Check that the shapes go together."""
        if (
            len(self.weight.shape) != 2
            or self.activations.ndim != 2
            or self.weight.shape[1] != self.activations.shape[1]
        ):
            raise InputError(
                f"activations have shape {list(self.activations.shape)}; "
                f"weights of shape {list(self.weight.shape)} want [tokens, {self.weight.shape[-1]}]"
            )

    @property
    def fields(self) -> dict[str, int]:
        """The job as a core with modes is told it."""
        n_out, n_in = self.weight.shape
        return {"n_in": n_in, "n_out": n_out, "tokens": len(self.activations), "mode": self.mode}


def oracle(weight: Tensor | GroupQuantized, activations: Tensor) -> Tensor:
    """Return y = W a for every token: plain torch on unpacked tensors, int64 [tokens, n_out]."""
    whole = weight if isinstance(weight, Tensor) else weight.dequantise()
    return activations.long() @ whole.long().T


def expect(core: str, config: Any, product: Product) -> Tensor:
    """Return what a core makes of a product, int64 [tokens, n_out]: `oracle`, or the golden model of an FP16 one."""
    assert isinstance(product.weight, Tensor) or config.modes[product.mode].activation_format == "integer"
    special = find_core(core).expect
    if special is not None and isinstance(product.weight, Tensor):
        return special(config, product.weight, product.activations)
    return oracle(product.weight, product.activations)


def rows_beyond(core: str, config: Any, product: Product) -> Tensor:
    """Return the results of rows beyond n_out, int64 [tokens]: zero, or in FP16 what zero weights give."""
    if config.modes[product.mode].activation_format == "integer" or not isinstance(product.weight, Tensor):
        return torch.zeros(len(product.activations), dtype=torch.int64)
    nothing = dataclasses.replace(product, weight=torch.zeros_like(product.weight[:1]))
    return expect(core, config, nothing)[:, 0]


def fits(config: Any, product: Product) -> None:
    """Raise InputError if a product is larger than a core takes, or has a value that its mode does not have."""
    for name, most in config.job_limits.items():
        length = product.fields[name]
        if not 1 <= length <= most:
            remedy = f"; set {name}_max to {length} or more" if length and hasattr(config, f"{name}_max") else ""
            raise InputError(f"{name} is {length}; this core takes 1 to {most}{remedy}")
    kinds = config.modes[product.mode]
    for name, operand, values in (
        ("weight", product.weight, kinds.weight_values),
        ("activation", product.activations, kinds.activation_values),
    ):
        if values.step == 1 or not isinstance(operand, Tensor):
            continue  # their packers say so
        wrong = (operand < values.start) | (operand >= values.stop) | ((operand - values.start) % values.step != 0)
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            allowed = ", ".join(str(value) for value in values)
            raise InputError(
                f"the {name} at [{row}, {column}] is {operand[row, column]}; mode {kinds.name!r} takes {allowed}"
            )


def padded(config: Any, product: Product) -> Tensor:
    """Fill the last transfer of each vector with legal values, which must not change a result."""
    missing = -product.activations.shape[1] % config.activation_lanes
    if getattr(config, "padding", "any") == "zero":
        return product.activations
    values = config.modes[product.mode].activation_values
    random = torch.Generator().manual_seed(missing)
    shape = (len(product.activations), missing)
    filling = values.start + values.step * torch.randint(len(values), shape, generator=random)
    return torch.cat([product.activations.long(), filling], dim=1)


def product_job(core: str, config: Any, product: Product) -> Job:
    """Return the job of a product; `InputError` if it does not fit the core."""
    fits(config, product)
    found = find_core(core)
    if found.multiply is not None:
        return found.multiply(config, product.weight, product.activations)
    expected, rows = expect(core, config, product), config.rows
    tokens, n_out = expected.shape
    beyond = rows_beyond(core, config, product)[:, None].expand(-1, -n_out % rows)
    blocks = torch.cat([expected, beyond], dim=1).reshape(-1, rows).numpy()
    each = len(blocks) // tokens
    last = np.tile(np.arange(1, each + 1) == each, tokens)
    missing = np.tile((np.arange(each * rows) >= n_out).reshape(each, rows), (tokens, 1))
    operands = {"activations": product.activations.numpy(), "expected": expected.numpy()}
    if isinstance(product.weight, Tensor):
        operands["weights"] = product.weight.numpy()
    else:
        parts = {"codes": product.weight.codes, "zeros": product.weight.zeros, "scales": product.weight.scales}
        operands |= {f"weights_{name}": part.numpy() for name, part in parts.items()}
    return Job(
        product.fields,
        {
            "activations": Words(pack_activations(config, padded(config, product))),
            "weights": Words(pack_weights(core, config, product.weight, product.mode), tokens),
        },
        {"results": (blocks, last)},
        {"results": missing},
        getattr(config, "padding", "any") == "any",
        operands,
    )


def random_product(n_in: int, n_out: int, tokens: int, config: Any, seed: int, mode: int = 0) -> Product:
    """Return random weights and activations over the full ranges of a core's mode, the same for the same seed."""
    drawn, kinds = Draw(seed), config.modes[mode]

    def operand(values: range, form: str, *shape: int) -> Tensor:
        if form == "fp16":
            return drawn.words(*shape)
        return values.start + values.step * drawn.integers(0, len(values) - 1, *shape)

    weight = operand(kinds.weight_values, kinds.weight_format, n_out, n_in)
    if kinds.weight_format == "integer":
        weight = weight.to(torch.int8)
    activations = operand(kinds.activation_values, kinds.activation_format, tokens, n_in)
    return Product(random_groups(config, weight, drawn.random, mode), activations, mode)
