"""What the benches share: which simulator they run on, and which engine alone."""

import os
from pathlib import Path

import pytest

from nomul.sim.runner import SIMULATORS


@pytest.fixture(scope="session")
def simulator_name() -> str:
    """The simulator named by NOMUL_SIM, Verilator by default."""
    return os.environ.get("NOMUL_SIM") or SIMULATORS[0]


def pytest_configure() -> None:
    """Refuse a NOMUL_ENGINE that has no bench, which would leave no test, and a NOMUL_SIM that is no simulator."""
    benches = sorted(file.stem.removeprefix("test_") for file in Path(__file__).parent.glob("test_*.py"))
    for name, variable, allowed in (
        ("ENGINE", "NOMUL_ENGINE", benches),
        ("SIM", "NOMUL_SIM", SIMULATORS),
    ):
        value = os.environ.get(variable)
        if value and value not in allowed:
            raise pytest.UsageError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With NOMUL_ENGINE, keep only that engine's benches: those in sim/test_ENGINE.py.

    Benches of one configuration share its simulator, so they run on one worker, which builds it once.
    """
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if item.path.parent.name == "sim" and "name" in parameters:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {parameters['name']}"))
    engine = os.environ.get("NOMUL_ENGINE")
    if engine:
        kept = [item for item in items if item.path.parent.name != "sim" or item.path.stem == f"test_{engine}"]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
