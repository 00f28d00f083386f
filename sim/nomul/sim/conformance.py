"""The conformance kit: what every core has to pass, as a base class of tests.

    class TestMine(CoreConformance):
        core = "mine"
        configs = {"small": MineConfig(lanes_in=4, rows=2, n_in_max=64, n_out_max=12)}
        behind_axi = ("small",)
        mutations = {"a bit that is stuck": ("small", one_stuck_bit)}

makes pytest run, for each configuration and in the simulator that NOMUL_SIM names (Verilator by default): the largest
and smallest operands, jobs alone whose cycles the cost model says, ragged sizes with random stalls of every stream,
resets in mid-flight, and illegal jobs; behind AXI, jobs of all modes under stalls; and for each mutation, that the
benches notice it. What comes out is compared with plain PyTorch, or with what the core's `Core` object expects.

Configurations should be small: the benches go up to their longest vectors. A mutation gets a `pytest.MonkeyPatch`, and
breaks the gateware with it before it is elaborated.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from nomul.config import describe
from nomul.cores.api import Core
from nomul.cores.discover import find_core
from nomul.sim import scenarios
from nomul.sim.check import bench_core, build_core
from nomul.sim.runner import SIMULATORS

__all__ = ["CoreConformance", "Mutation", "assert_complete"]

Mutation = Callable[[pytest.MonkeyPatch], None]
"""Breaks the gateware that is elaborated after it."""


def assert_complete(core: Core) -> None:
    """Fail if a core lacks what checks, reports and searches ask for, or has fields that do not go together."""
    fields = core.gateware.config.__dataclass_fields__
    assert core.gateware.config(), "every field has a default"
    assert all(describe(field) and field.metadata["doc"] for field in fields.values())
    for settings in (*core.sizes.values(), *(point.settings for point in core.cost_points)):
        assert core.gateware.config(**settings)
    assert not core.cost_points or core.features is not None
    assert core.pack is None or core.multiply is None, "a core multiplies over one kind of streams"
    if core.multiplies:
        assert set(core.serves.values()) <= {mode.name for mode in core.gateware.config().modes}
    else:
        assert core.jobs is not None, "what it does is checked on random jobs"


class CoreConformance:
    """Tests of one core; a subclass names the core and its configurations.

    Attributes
    ----------
    core : str
        Name of the core.
    configs : mapping of str to configuration
        Small configurations, by name: every form, target and corner of the core.
    random_jobs : int
        Random jobs of a run, of a core that does not multiply matrices.
    behind_axi : sequence of str
        Those that are simulated on AXI too.
    mutations : mapping of str to (name of a configuration, Mutation)
        Faults that the benches must notice.
    """

    core: ClassVar[str]
    configs: ClassVar[Mapping[str, Any]]
    random_jobs: ClassVar[int] = 100
    behind_axi: ClassVar[Sequence[str]] = ()
    mutations: ClassVar[Mapping[str, tuple[str, Mutation]]] = {}

    def __init_subclass__(cls) -> None:
        """Leave out the tests for which a core names nothing."""
        super().__init_subclass__()
        for test, wanted in (("test_behind_axi", cls.behind_axi), ("test_a_mutation_is_noticed", cls.mutations)):
            if not wanted and test not in vars(cls):
                setattr(cls, test, None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test its configurations or mutations."""
        for argument, names in (
            ("name", self.configs),
            ("on_axi", self.behind_axi),
            ("mutation", self.mutations),
        ):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(names))

    @property
    def found(self) -> Core:
        """The core's object."""
        return find_core(self.core)

    @property
    def simulator(self) -> str:
        """The simulator that NOMUL_SIM names."""
        return os.environ.get("NOMUL_SIM") or SIMULATORS[0]

    def test_its_object_is_complete(self) -> None:
        """What checks, reports and searches ask for is there and agrees."""
        assert_complete(self.found)

    @pytest.mark.bench
    def test_scenarios(self, name: str) -> None:
        """Every result of every scenario is right, and so are the cycles of a job alone."""
        scenarios.run_scenarios(self.core, self.configs[name], self.simulator, self.random_jobs)

    @pytest.mark.bench
    def test_behind_axi(self, on_axi: str) -> None:
        """Behind AXI results are as exact."""
        scenarios.behind_axi(self.core, self.configs[on_axi], self.simulator)

    @pytest.mark.bench
    def test_a_mutation_is_noticed(self, mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The benches see a fault in the gateware."""
        name, break_it = self.mutations[mutation]
        config = self.configs[name]
        break_it(monkeypatch)
        broken = build_core(self.core, config, self.simulator)
        said = bench_core(broken, self.core, config, scenarios.mixed(self.core, config))
        assert any(result["mismatches"] or result["surplus"] or result["fault"] for result in said)
