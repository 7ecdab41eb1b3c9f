"""What is told of a run that goes on, stopped or is done."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.storage.locks import held
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation import workspace
from numbaglm.errors import OutputExistsError
from numbaglm.faces.commands import commands
from numbaglm.inference.run_state import tell_run
from numbaglm.inference.running import Run
from numbaglm.spaces.volume import Geometry

DESIGN = pd.DataFrame({"x": np.arange(8.0), "one": 1.0})


class _Power(Exception):
    """It went out."""


def run(store):
    data = np.random.default_rng(0).normal(size=(8, 27)).astype(np.float32)
    cohort = Cohort(CohortStore.from_array(data, Geometry(np.ones((3, 3, 3), bool), np.eye(4))))
    contrasts = {"slope": "x", "mean": "one"}
    return permutation_test(cohort, DESIGN, contrasts, n_perm=30, tfce=True, store=store, n_workers=1)


def test_a_run_tells_how_far_it_is(tmp_path, monkeypatch):
    store, perform, seen = tmp_path / "run", workspace._perform, []

    def stop(ledger, key, *arguments):
        if key == "contrast-000/maps-000/00000":
            seen.append(tell_run(Place.parse(store)))
            raise _Power
        perform(ledger, key, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(workspace, "_perform", stop)
        with pytest.raises(_Power):
            run(store)
    slope, mean = seen[0].tests
    assert seen[0].state == "running"
    assert "process " in seen[0].describe()
    assert (slope.state, slope.done) == ("begun", {"shuffling": 1, "clusters": 1, "whole maps": 0})
    assert (mean.state, mean.tasks) == ("waiting", {})
    told = CliRunner().invoke(commands, ["info", str(store)])
    assert told.exit_code == 0, told.output
    assert "stopped: the same call goes on" in told.output
    assert "slope: begun: shuffling 1 of 1 tasks, clusters 1 of 1 tasks, whole maps 0 of 1 tasks" in told.output
    run(store)
    told = json.loads(CliRunner().invoke(commands, ["info", str(store), "--json"]).output)
    assert (told["state"], [one["state"] for one in told["contrasts"]]) == ("done", ["done", "done"])


def test_rounds_of_a_test_that_stops_are_one_test(tmp_path, monkeypatch):
    store, through = tmp_path / "run", Run.test
    Y = np.random.default_rng(0).normal(size=(12, 20)) + 0.6
    cohort, options = pd.DataFrame(Y), {"n_perm": 900, "stop": "decided", "store": store, "n_workers": 1}

    def test(run, spec, of):
        if of == "contrast-000-part-02":
            raise _Power
        return through(run, spec, of)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "test", test)
        with pytest.raises(_Power):
            permutation_test(cohort, **options)
    (only,) = tell_run(Place.parse(store)).tests
    assert (only.state, only.n_shufflings, only.more) == ("begun", 201, True)
    told = CliRunner().invoke(commands, ["info", str(store)]).output
    assert "shuffling 2 of 2 tasks" in told
    assert "; rounds until p are decided" in told
    made = permutation_test(cohort, **options).asked.n_shufflings
    run = tell_run(Place.parse(store))
    assert (run.state, run.tests[0].n_shufflings, run.tests[0].more) == ("done", made, False)


def test_what_is_told_takes_no_lock_and_another_version_is_refused(tmp_path):
    place = Place.parse(tmp_path)
    header = {"schema": "numbaglm.run", "schema_version": 1, "identity": {}}
    (tmp_path / "run.json").write_text(json.dumps(header))
    with pytest.raises(OutputExistsError, match="begun by another version"), held(place, "The run"):
        tell_run(place)
