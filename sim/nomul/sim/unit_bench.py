"""The cocotb bench that every unit runs in: drive all its streams, compare all its outputs, transfer by transfer.

It runs inside the simulator. The case says what to drive and what to expect; the expectation was computed outside, by
the golden functions. Nothing here knows what a unit computes.
"""

import dataclasses
from typing import Any

import cocotb
import numpy as np

from nomul.sim.drive import Driver, run_cases
from nomul.sim.evidence import DIFFERENCES, write_got

__all__ = ["UnitCase", "UnitTransfers", "simulate"]


@dataclasses.dataclass(frozen=True)
class UnitCase:
    """What a bench drives into a unit.

    `arrays` names an .npz file with the payloads of each stream, uint8 [transfers, bytes]: `jobs`, `input_NAME`, and
    `output_NAME` for those expected. `jobs` are the fields of each; `illegal_first` and `illegal_last` say how many
    jobs before and after them in the array the unit must refuse. `ports` has lanes, width and sign of each stream.
    """

    jobs: list[dict[str, int]]
    arrays: str
    inputs: list[str]
    outputs: list[str]
    ports: dict[str, dict[str, Any]]
    illegal_first: list[dict[str, int]] = dataclasses.field(default_factory=list)
    illegal_last: list[dict[str, int]] = dataclasses.field(default_factory=list)
    lasts: int = 1
    stall: float = 0.0
    seed: int = 0
    reset_after: int | None = None
    timeout: int = 1_000_000


class UnitTransfers:
    """The payloads of a case: `items` go into each input, `expected` come out of each output."""

    def __init__(self, case: UnitCase) -> None:
        arrays = np.load(case.arrays)
        self.items = {"jobs": _integers(arrays["jobs"])}
        self.items |= {name: _integers(arrays[f"input_{name}"]) for name in case.inputs}
        self.expected = {name: _integers(arrays[f"output_{name}"]) for name in case.outputs}
        self.widths = {name: 8 * arrays[f"output_{name}"].shape[1] for name in case.outputs}

    def compare(self, got: dict[str, list[int]]) -> dict[str, Any]:
        """Compare payloads with the expectation, `last` included; the differences listed are in hexadecimal.

        What came is written to files if something differs.
        """
        mismatches, differences = 0, []
        for name, expected in self.expected.items():
            for number, want in enumerate(expected):
                have = got[name][number] if number < len(got[name]) else None
                if have != want:
                    mismatches += 1
                    differences.append(
                        {
                            "output": name, "transfer": number, "expected": hex(want),
                            "got": None if have is None else hex(have),
                        }
                    )  # fmt: skip
        if mismatches:
            write_got({name: (got[name], self.widths[name]) for name in self.expected})
        return {
            "outputs": sum(len(expected) for expected in self.expected.values()),
            "mismatches": mismatches,
            "first_mismatch": differences[0] if differences else None,
            "differences": differences[:DIFFERENCES],
        }


def _integers(rows: np.ndarray) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Drive each case into the unit and compare."""

    async def run(values: dict[str, Any]) -> dict[str, Any]:
        case = UnitCase(**values)
        transfers = UnitTransfers(case)
        driver = Driver(dut, transfers.items, case.outputs, stall=case.stall, seed=case.seed)
        wanted = sum(len(items) for items in transfers.expected.values())
        done = await driver.outcome(wanted, case.timeout, case.reset_after)
        got = dict(zip(case.outputs, done.transfers, strict=True))
        return transfers.compare(got) | done.facts | {"seed": case.seed}

    await run_cases(dut, run)
