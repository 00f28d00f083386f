"""The job runner: results kept, resumed, rebuilt and the same on a cluster; nothing left behind by an interrupt."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nomul.errors import InputError
from nomul.jobs.pool import ToolJob, run_jobs

HERE = "tests.test_flow_jobs"


def square(number: int, log: str, seconds: float = 0) -> dict[str, int]:
    """A job that says in a file that it ran."""
    time.sleep(seconds)
    with open(log, "a") as file:
        file.write(f"{number}\n")
    if number < 0:
        raise InputError(f"number is {number}; allowed: 0 or more")
    return {"square": number * number, "process": os.getpid()}


def jobs(log: Path, numbers=range(4), seconds: float = 0) -> list[ToolJob]:
    return [
        ToolJob(f"{HERE}:square", {"number": n, "log": str(log), "seconds": seconds}, weight=n + 1) for n in numbers
    ]


def ran(log: Path) -> list[int]:
    return sorted(int(line) for line in log.read_text().split())


def test_results_are_kept_and_a_damaged_one_is_made_again(tmp_path):
    log = tmp_path / "log"
    first = run_jobs(jobs(log), workers=2, cache=tmp_path)
    assert [outcome.value["square"] for outcome in first] == [0, 1, 4, 9]
    assert all(outcome.value["process"] != os.getpid() for outcome in first)
    assert ran(log) == [0, 1, 2, 3]
    entries = {json.loads(path.read_text())["payload"]["square"]: path for path in (tmp_path / "jobs").glob("*.json")}
    entries[4].write_text(entries[4].read_text().replace('"square": 4', '"square": 5'))
    entries[9].write_bytes(entries[9].read_bytes()[:-20])
    log.unlink()
    seen = []
    again = run_jobs(jobs(log), workers=2, cache=tmp_path, finished=seen.append)
    assert [outcome.value["square"] for outcome in again] == [0, 1, 4, 9]
    assert [outcome.kept for outcome in again] == [True, True, False, False]
    assert ran(log) == [2, 3]
    assert len(seen) == 4


def test_a_refused_job_does_not_stop_the_others_and_is_not_kept(tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        outcomes = run_jobs(jobs(log, [1, -3, 1]), workers=1, cache=tmp_path)
        assert [outcome.value and outcome.value["square"] for outcome in outcomes] == [1, None, 1]
        assert outcomes[1].error == "number is -3; allowed: 0 or more"
    assert ran(log) == [-3, -3, 1]  # the same job twice is run once


def test_a_job_depends_on_its_files(tmp_path):
    file = tmp_path / "cells.lib"
    keys = set()
    for text in ("one", "two"):
        file.write_text(text)
        keys.add(ToolJob(f"{HERE}:square", {"a": 1}, files=(str(file),)).key)
    assert len(keys) == 2
    assert (
        ToolJob(f"{HERE}:square", {"a": 1, "b": 2}).key
        == ToolJob(f"{HERE}:square", {"b": 2, "a": 1}, label="other", weight=9).key
    )


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, signalled):
    log = tmp_path / "log"
    script = (
        "from pathlib import Path\nfrom tests.test_flow_jobs import jobs\nfrom nomul.jobs.pool import run_jobs\n"
        f"if __name__ == '__main__':\n    folder = Path({str(tmp_path)!r})\n"
        "    work = jobs(folder / 'log', range(2)) + jobs(folder / 'log', range(7, 9), 60)\n"
        "    run_jobs(work, workers=4, cache=folder)\n"
    )
    (tmp_path / "run.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")],
        env=environment,
        stderr=subprocess.DEVNULL,
        # A shell's background jobs ignore SIGINT, and what they start does too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = tmp_path / "jobs"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = _children(process.pid)
    assert workers
    process.send_signal(signalled)
    assert process.wait(timeout=30) != 0
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if _alive(pid)]
    kept = sorted(json.loads(path.read_text())["payload"]["square"] for path in folder.glob("*.json"))
    assert kept == [0, 1]
    log.unlink()
    outcomes = run_jobs(jobs(log, range(3)), workers=1, cache=tmp_path)
    assert [outcome.kept for outcome in outcomes] == [True, True, False]
    assert ran(log) == [2]


def _children(pid: int) -> list[int]:
    """The processes that a process started, and those that these did."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [child for each in found for child in _children(each)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_cluster_gives_the_same_results(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs Dask (the extra 'cluster')")
    work = [ToolJob("json:loads", {"s": json.dumps({"number": n})}) for n in range(5)]
    local = run_jobs(work, workers=1, cache=None)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=50
    ) as cluster:
        remote = run_jobs(work, scheduler=cluster.scheduler_address, cache=tmp_path)
    assert [outcome.value for outcome in remote] == [outcome.value for outcome in local]
    assert all(not outcome.kept and outcome.value for outcome in remote)
    assert [o.value for o in run_jobs(work, cache=tmp_path)] == [o.value for o in local]


def test_a_scheduler_that_is_not_there():
    pytest.importorskip("distributed", reason="needs Dask (the extra 'cluster')")
    with pytest.raises(InputError, match=r"^there is no Dask scheduler at 'tcp://127\.0\.0\.1:9' \(.+\)$"):
        run_jobs([ToolJob(f"{HERE}:square", {})], scheduler="tcp://127.0.0.1:9", cache=None)
