"""How far a durable run is, told of its folder by whoever looks: nothing is changed, and no lock is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numbaglm.data.runs.folder import read_identity
from numbaglm.data.runs.ledger import FolderLedger
from numbaglm.data.storage.locks import holder
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.stages import Stage, Stages
from numbaglm.inference.running import read_plan, run_name


@dataclass(frozen=True)
class TestState:
    """How far the test of a contrast is.

    Attributes
    ----------
    contrast
        Its name; "" where the call gave none.
    n_shufflings
        Of each voxel, the data as they are among them; None before the test has been planned.
    done, tasks
        How many tasks have left a record, and how many there are, by what they do.
    """

    contrast: str
    n_shufflings: int | None
    done: Mapping[str, int]
    tasks: Mapping[str, int]

    @property
    def state(self) -> str:
        """One of "waiting", "begun" and "done"."""
        if self.n_shufflings is None:
            return "waiting"
        return "done" if all(self.done[name] >= n for name, n in self.tasks.items()) else "begun"


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes
    ----------
    location
        Its folder.
    holder
        The process that works at it; "" where there is none that is known to.
    tests
        Of each contrast.
    """

    location: str
    holder: str
    tests: tuple[TestState, ...]

    @property
    def state(self) -> str:
        """One of "running", "done" and "stopped"."""
        if self.holder:
            return "running"
        return "done" if all(test.state == "done" for test in self.tests) else "stopped"

    def summarise(self) -> dict[str, Any]:
        """Return it as JSON types."""
        tests = [
            {"contrast": one.contrast, "state": one.state, "done": dict(one.done), "tasks": dict(one.tasks)}
            for one in self.tests
        ]
        return {"location": self.location, "state": self.state, "process": self.holder, "contrasts": tests}

    def describe(self) -> str:
        """Return it as text."""
        advice = {
            "running": f"in use by {self.holder}",
            "done": "done: the same call gives its result",
            "stopped": "stopped: the same call goes on",
        }
        lines = [f"{self.location}: {advice[self.state]}"]
        for test in self.tests:
            told = ", ".join(f"{name} {test.done[name]} of {n} tasks" for name, n in test.tasks.items())
            lines.append(f"  {test.contrast or 'the contrast'}: {test.state}{': ' if told else ''}{told}")
        return "\n".join(lines)


def tell_run(place: Place) -> RunState:
    """Tell how far the run in a folder is.

    Raises
    ------
    OutputExistsError
        It is no run, or another version's.
    StoreError
        It can't be read.
    """
    identity = read_identity(place)
    contrasts = identity.get("contrasts")
    names = list(contrasts) if isinstance(contrasts, dict) else []
    if identity.get("combine_contrasts") and names:  # of which one test was made
        names = [" & ".join(names)]
    ledger = FolderLedger(place)
    tests = []
    for number, contrast in enumerate(names):
        name = run_name(number)
        plan = read_plan(place, name)
        stages = {} if plan is None else _stages(plan, name, identity)
        done = {what: sum(len(ledger.done(one.name)) for one in some) for what, some in stages.items()}
        tasks = {what: sum(len(one.spans) for one in some) for what, some in stages.items()}
        tests.append(TestState(contrast, None if plan is None else plan.ranges[-1][1], done, tasks))
    return RunState(str(place), holder(place), tuple(tests))


def _stages(plan: Plan, name: str, identity: Mapping[str, Any]) -> dict[str, list[Stage]]:
    """Stages of a test, by what they do; those that take whole maps follow from what was asked."""
    stages, rounds = Stages(name, plan.blocks, plan.ranges), range(len(plan.ranges))
    found = {"shuffling": [stages.voxels(number) for number in rounds]}
    smoothed = identity.get("variance_smoothing_fwhm") is not None
    if identity.get("cluster_forming_threshold") is not None and not smoothed:
        found["clusters"] = [stages.clusters(number, plan.clusterings) for number in rounds]
    if identity.get("tfce") or identity.get("tfce_uncorrected") or smoothed:
        found["whole maps"] = [stages.maps(number, plan.map_rows) for number in rounds]
    return found
