"""How far a durable run is, told of its folder by whoever looks: nothing is changed, and no lock is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from numbaglm.data.runs.folder import read_identity
from numbaglm.data.runs.ledger import FolderLedger
from numbaglm.data.storage.locks import holder
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.stages import Stage, Stages
from numbaglm.inference.running import has_ended, part_name, read_plan, run_name


@dataclass(frozen=True)
class TestState:
    """How far the test of a contrast is.

    Attributes
    ----------
    contrast
        Its name; "" where the call gave none.
    n_shufflings
        Of each voxel, the data as they are among them; None before the test has been planned. Where it stops once p are
        decided, those of the rounds so far.
    done, tasks
        How many tasks have left a record, and how many there are, by what they do.
    more
        Whether rounds may follow those that are planned.
    """

    contrast: str
    n_shufflings: int | None
    done: Mapping[str, int]
    tasks: Mapping[str, int]
    more: bool = False

    @property
    def state(self) -> str:
        """One of "waiting", "begun" and "done"."""
        if self.n_shufflings is None:
            return "waiting"
        whole = all(self.done[name] >= n for name, n in self.tasks.items())
        return "done" if whole and not self.more else "begun"


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
            more = "; rounds until p are decided" if test.more and told else ""
            lines.append(f"  {test.contrast or 'the contrast'}: {test.state}{': ' if told else ''}{told}{more}")
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
        planned = dict(_planned(place, run_name(number)))
        done: Counter[str] = Counter()
        tasks: Counter[str] = Counter()
        for name, plan in planned.items():
            for what, some in _stages(plan, name, identity).items():
                done[what] += sum(len(ledger.done(one.name)) for one in some)
                tasks[what] += sum(len(one.spans) for one in some)
        made = 1 + sum(plan.ranges[-1][1] - 1 for plan in planned.values()) if planned else None
        more = bool(planned) and run_name(number) not in planned and not has_ended(place, run_name(number))
        tests.append(TestState(contrast, made, dict(done), dict(tasks), more))
    return RunState(str(place), holder(place), tuple(tests))


def _planned(place: Place, name: str) -> Iterator[tuple[str, Plan]]:
    """Plans of a test, by name: one, or one a round where it stops once p are decided; none before it is planned."""
    plan = read_plan(place, name)
    if plan is not None:
        yield name, plan
        return
    for number in count():
        part = part_name(name, number)
        plan = read_plan(place, part)
        if plan is None:
            return
        yield part, plan


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
