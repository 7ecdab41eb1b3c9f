import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm.cohort import Cohort
from numbaglm.datasets.surfaces import cortex
from numbaglm.errors import OutputExistsError
from numbaglm.faces.cli.surface_demo import run_surface_demo
from numbaglm.faces.commands import commands
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import UNKNOWN


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo on coarse meshes, where it is quick."""
    meshes = {side: cortex(side, 3)[0] for side in ("left", "right")}
    return run_surface_demo(tmp_path_factory.mktemp("walk") / "demo", n_perm=200, surfaces=meshes)


def test_hand_knob_is_found_where_it_was_planted(made):
    clusters = pd.read_csv(made.folder / "permutation" / "clusters.tsv", sep="\t")
    best = clusters.iloc[0]
    assert (best["structure"], best["unit"]) == ("right", "mm2")
    assert best["p_fwe_size"] <= 0.05
    assert np.linalg.norm(best[["peak_x", "peak_y", "peak_z"]].to_numpy(float) - (38, -24, 58)) < 30
    assert set(clusters["sign"]) == {"+"}  # one-sided
    assert Cohort.open(made.folder / "cohort.zarr").store.space.nouns == "vertices"
    assert PermutationResult.load(made.folder / "permutation").provenance["seed"] == 0


def test_everything_is_written_and_explained(made):
    text = (made.folder / "README.md").read_text()
    assert UNKNOWN not in text
    assert made.text in text
    for name in ("p_fwe_tfce_hemi-L.func.gii", "p_fwe_tfce_hemi-R.func.gii"):
        assert (made.folder / "permutation" / name).stat().st_size
    for name in ("statistic", "corrected", "nulls"):
        assert (made.folder / "figures" / f"{name}.png").stat().st_size > 5_000
        assert f"figures/{name}.png)" in text
    summary = json.loads((made.folder / "demo.json").read_text())
    assert summary["n_fwe_0.05"]["clusters_by_size"] >= 1
    out = CliRunner().invoke(commands, ["info", str(made.folder / "permutation"), "--json"]).stdout
    assert json.loads(out)["clusters"] == summary["clusters"]


def test_only_a_demo_is_replaced_and_there_is_one_at_a_time(made, tmp_path):
    with pytest.raises(OutputExistsError):
        run_surface_demo(made.folder)
    outcome = CliRunner().invoke(commands, ["demo", "--surface", "--localizer", "--output", str(tmp_path / "demo")])
    assert outcome.exit_code == 2
    assert "--localizer" in outcome.stderr
