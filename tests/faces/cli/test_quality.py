from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner

from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.quality import examine
from numbaglm.faces.cli.quality import describe
from numbaglm.faces.commands import commands
from numbaglm.spaces.volume import Geometry
from reference.maps import volumes, write_maps


def found(n_odd, n=90):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(n, 200)) + rng.normal(size=200)
    Y[:n_odd] += 50 + rng.normal(size=(n_odd, 1))
    geometry = Geometry(np.ones((200, 1, 1), bool), np.eye(4))
    return examine(CohortStore.from_array(Y.astype("f4"), geometry))


def test_maps_that_stand_out_are_a_line_each():
    lines = describe(found(2)).splitlines()
    assert lines[0] == "2 of 90 maps stand out:"
    assert lines[1].split()[:4] == ["mean", "sd", "correlation", "missing"]
    assert [line.split()[0] for line in lines[2:]] == ["subject-001", "subject-002"]
    assert describe(found(1)).startswith("1 of 90 maps stands out:")
    assert describe(found(25)).endswith("\n... 5 more")


def test_the_command_writes_a_table_of_all_maps(tmp_path):
    paths = write_maps(tmp_path, volumes(6))
    run = CliRunner().invoke(commands, ["quality", *map(str, paths), "--json", "-q", "-o", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert (told["n_subjects"], len(told["maps"])) == (6, 6)
    assert len((tmp_path / "out" / "quality.tsv").read_text().splitlines()) == 7
