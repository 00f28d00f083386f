"""The cocotb bench that every core runs in: drive all its streams, compare all its outputs, lane by lane.

It runs inside the simulator. The case (a JSON object, see `Case`) says what to drive and what to expect; the
expectation was computed outside, by plain PyTorch. Nothing here knows what a core computes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt

from nomul.sim.drive import Driver, run_cases
from nomul.sim.evidence import DIFFERENCES, write_got
from nomul.sim.fields import pack_fields
from nomul.sim.replay import append_payloads

__all__ = ["Case", "Transfers", "simulate"]


@dataclasses.dataclass(frozen=True)
class Case:
    """What a bench drives into a core, in the order of jobs.

    `arrays` names an .npz file. It has, for job j and each stream, `{stream}{j}`, uint8 [transfers, bytes]: what goes
    in, as often as `times` says, or must come out; and for outputs `{stream}{j}_beyond`, int8 [transfers, lanes]: 1 for
    a lane beyond the end of a vector, 2 if it is not compared either. `illegal_first` and `illegal_last` are jobs that
    the core must refuse, before and after the others.
    """

    jobs: list[dict[str, int]]
    arrays: str
    field_bits: dict[str, int]
    """Bits of each field of a job, the first in the lowest."""

    inputs: list[str]
    outputs: list[str]
    ports: dict[str, dict[str, Any]]
    """Lanes, width and sign of a value of each stream, and the bits that it takes on a bus."""

    times: list[dict[str, int]]
    """Of each job, how often the transfers of each input go in."""

    place_names: tuple[str, str, str] = ("vector", "index", "transfer")
    """What a vector of results, a value in it, and a transfer of it are called."""

    illegal_first: list[dict[str, int]] = dataclasses.field(default_factory=list)
    illegal_last: list[dict[str, int]] = dataclasses.field(default_factory=list)
    vectors: int = 0
    """Vectors of results."""

    stall: float = 0.0
    seed: int = 0
    reset_after: int | None = None
    timeout: int = 1_000_000

    @property
    def given(self) -> list[dict[str, int]]:
        """All jobs, the illegal ones too."""
        return [*self.illegal_first, *self.jobs, *self.illegal_last]


class Transfers:
    """The payloads of a case, and how those that come out are compared."""

    def __init__(self, case: Case) -> None:
        self.case = case
        with np.load(case.arrays) as arrays:
            self.arrays: Mapping[str, npt.NDArray[Any]] = {name: arrays[name] for name in arrays}
        self.expected = {
            name: [payload for j in range(len(case.jobs)) for payload in _integers(self.arrays[f"{name}{j}"])]
            for name in case.outputs
        }

    def jobs(self) -> list[int]:
        """Return the transfers of the stream `jobs`."""
        return [pack_fields(job, self.case.field_bits) for job in self.case.given]

    def rows(self, name: str) -> list[tuple[npt.NDArray[np.uint8], int]]:
        """Return what goes into an input: for each job transfers, and how often they do."""
        return [(self.arrays[f"{name}{j}"], times[name]) for j, times in enumerate(self.case.times)]

    def integers(self, name: str) -> list[int]:
        """Return what goes into an input as numbers."""
        return [payload for rows, times in self.rows(name) for payload in _integers(rows) * times]

    def compare(self, got: Mapping[str, list[int]]) -> dict[str, Any]:
        """Compare payloads with the expectation, `last` included.

        `differences` are the first of each of several values. What came is written to files if something differs.
        """
        outputs = mismatches = 0
        differences: list[dict[str, Any]] = []
        for name in self.case.outputs:
            beyond = self._beyond(name)
            outputs += int((beyond == 0).sum())
            wrong, first = self._differences(name, got[name], beyond)
            mismatches += wrong
            differences += first
        surplus = sum(max(0, len(got[name]) - len(expected)) for name, expected in self.expected.items())
        if mismatches or surplus:
            write_got({name: (got[name], self._width(name) + 1) for name in self.case.outputs})
        return {
            "outputs": outputs,
            "mismatches": mismatches,
            "surplus": surplus,
            "first_mismatch": differences[0] if differences else None,
            "differences": differences[:DIFFERENCES],
        }

    def _width(self, name: str) -> int:
        port = self.case.ports[name]
        return int(port["lanes"] * port["width"])

    def _beyond(self, name: str) -> npt.NDArray[np.int8]:
        """Return which lanes of an output are beyond the end of a vector, int8 [transfers, lanes]."""
        lanes = self.case.ports[name]["lanes"]
        return np.concatenate(
            [
                self.arrays.get(f"{name}{j}_beyond", np.zeros((len(self.arrays[f"{name}{j}"]), lanes), np.int8))
                for j in range(len(self.case.jobs))
            ]
        )

    def _differences(self, name: str, got: list[int], beyond: npt.NDArray[np.int8]) -> tuple[int, list[dict[str, Any]]]:
        """Return how many lanes of an output differ, and the first difference of each of several values."""
        width, lanes = self._width(name), self.case.ports[name]["lanes"]
        vector_of, index_of, transfer_of = self.case.place_names
        mismatches = 0
        first: dict[tuple[int, int], dict[str, Any]] = {}
        job, left, vector, transfer = -1, 0, 0, 0
        for number, want in enumerate(self.expected[name]):
            if left == 0:
                job, vector, transfer = job + 1, 0, 0
                left = len(self.arrays[f"{name}{job}"])
            left -= 1
            have = got[number] if number < len(got) else None
            if have != want:
                framed = have is not None and have >> width == want >> width
                wanted, came = self._values(name, want), None if have is None else self._values(name, have)
                for lane in range(lanes):
                    same = came is not None and (came[lane] == wanted[lane] or beyond[number, lane] == 2)
                    if same and framed:
                        continue
                    mismatches += 1
                    index = transfer * lanes + lane
                    if (job, index) not in first and len(first) < DIFFERENCES:
                        first[job, index] = {
                            "output": name, "job": job, vector_of: vector, index_of: index, transfer_of: transfer,
                            "expected": wanted[lane], "got": None if came is None else came[lane],
                            "last": None if have is None else have >> width,
                        }  # fmt: skip
            transfer += 1
            if want >> width:
                vector, transfer = vector + 1, 0
        return mismatches, [*first.values()]

    def _values(self, name: str, payload: int) -> list[int]:
        """Return the values of a payload's lanes."""
        port = self.case.ports[name]
        width, sign = port["width"], port["signed"] << (port["width"] - 1)
        return [((payload >> (lane * width) & ((1 << width) - 1)) ^ sign) - sign for lane in range(port["lanes"])]


def _integers(rows: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def inputs(dut: Any, transfers: Transfers) -> dict[str, list[int]]:
    """Write the payloads, which are replayed, to their files; return what goes into each stream: their numbers."""
    items: dict[str, list[int]] = {"jobs": transfers.jobs()}
    for name in transfers.case.inputs:
        width, items[name] = len(getattr(dut, f"{name}__payload")), []
        for rows, times in transfers.rows(name):
            items[name] += [*append_payloads(Path(f"{name}.bin"), rows, width)] * times
    return items


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Drive each case into the core and compare."""

    async def run(values: dict[str, Any]) -> dict[str, Any]:
        case = Case(**values)
        transfers = Transfers(case)
        streams = inputs(dut, transfers)
        driver = Driver(dut, streams, case.outputs, replayed=case.inputs, stall=case.stall, seed=case.seed)
        wanted = sum(len(expected) for expected in transfers.expected.values())
        done = await driver.outcome(wanted, case.timeout, case.reset_after)
        found = transfers.compare(dict(zip(case.outputs, done.transfers, strict=True)))
        return found | done.facts | {"surplus": found["surplus"] + done.facts["surplus"], "seed": case.seed}

    await run_cases(dut, run)
