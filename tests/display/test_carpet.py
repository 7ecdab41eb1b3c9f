from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm import PermutationResult, plotting
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import save_image, to_image
from numbaglm.engine.quality import examine
from numbaglm.errors import InputError
from numbaglm.faces.commands import commands
from numbaglm.spaces.volume import Geometry

GEOMETRY = Geometry(np.ones((8, 9, 7), bool), np.diag([3.0, 3.0, 3.0, 1.0]))


def maps(n_subjects=12, odd=(4,)):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(n_subjects, GEOMETRY.n_voxels)) + 2 * rng.normal(size=GEOMETRY.n_voxels)
    Y += rng.permutation(np.linspace(-0.3, 0.3, n_subjects))[:, None]
    Y[list(odd)] *= -1
    return Y.astype(np.float32)


def cohort(n_subjects=12, odd=(4,), labels=None):
    return Cohort(CohortStore.from_array(maps(n_subjects, odd), GEOMETRY, subjects=labels))


def names(figure):
    """Labels beside the carpet, and whether each is that of an outlier."""
    return {text.get_text(): text.get_weight() == "bold" for text in figure.axes[0].texts}


def test_rows_are_named_and_those_that_stand_out_are_marked():
    one = cohort()
    figure = plotting.quality(one, title="Maps")
    assert names(figure) == {label: number == 4 for number, label in enumerate(one.subjects)}
    carpet, _, mean, sd, correlation, missing = figure.axes
    np.testing.assert_array_equal(carpet.images[0].get_array(), examine(one.store).carpet)
    assert [axes.get_title().split()[0] for axes in (mean, sd, correlation, missing)] == [
        "mean",
        "sd",
        "correlation",
        "voxels",
    ]
    marked = [[len(points.get_offsets()) for points in axes.collections[1:]] for axes in (mean, correlation)]
    assert sum(marked[0]) == 0
    assert sum(marked[1]) == 1


def test_only_what_stands_out_is_named_in_a_large_cohort():
    odd = [3, 4, 5, 60, 61, 89]
    figure = plotting.quality(cohort(90, odd))
    assert names(figure) == {f"subject-{number + 1:03d}": True for number in odd}
    places = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert np.diff(places).min() > 90 / 60, "labels do not overlap"
    assert places[-1] < 90
    beside = [line for line in figure.axes[0].lines if line.get_xdata()[0] < 0]
    assert sorted(line.get_ydata()[1] for line in beside) == [number + 0.5 for number in odd]


def test_what_has_no_room_is_counted(monkeypatch):
    monkeypatch.setattr("numbaglm.display.carpet._LINE", 2.5)
    figure = plotting.quality(cohort(90, [3, 4, 5, 60, 61]))
    assert len(names(figure)) == 3
    assert "and 2 more" in [text.get_text() for text in figure.texts]


def test_labels_stay_on_the_page():
    figure = plotting.quality(cohort(labels=[f"sub-{number:02d}_a-rather-long-name-of-a-map" for number in range(12)]))
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        assert text.get_window_extent().x0 > 0
        assert "\u2026" in text.get_text()


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"sub-{number:02d}.nii.gz" for number in range(12)]
    for path, row in zip(paths, maps(), strict=True):
        save_image(to_image(GEOMETRY, row), path)
    return [str(path) for path in paths]


def invoke(*arguments):
    run = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.output
    return run


def test_the_command_tells_and_writes(tmp_path, files):
    out = tmp_path / "qc"
    run = invoke("quality", *files, "--output", out)
    assert "1 of 12 maps stands out:" in run.stdout
    assert "correlation" in run.stdout.splitlines()[2]
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "quality.png", "quality.tsv"]
    table = pd.read_csv(out / "quality.tsv", sep="\t")
    assert table["subject_label"][table["outlier"]].tolist() == ["sub-04"]
    again = CliRunner().invoke(commands, ["quality", *files, "-o", str(out)])
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    invoke("convert", *files, "--output", tmp_path / "c.zarr")
    summary = json.loads(invoke("quality", tmp_path / "c.zarr", "--json").stdout)
    assert (summary["n_subjects"], summary["n_outliers"], summary["output"]) == (12, 1, None)
    assert [one["subject_label"] for one in summary["maps"] if one["outlier"]] == ["sub-04"]


def test_a_permutation_test_warns_of_maps_that_stand_out_and_keeps_what_it_saw(tmp_path, files):
    out = tmp_path / "out"
    run = invoke("permute", *files, "--n-perm", 20, "--output", out)
    assert "Warning: 1 of 12 maps stands out: sub-04 (correlation)" in run.stderr
    assert (out / "figures" / "quality.png").is_file()
    table = pd.read_csv(out / "quality.tsv", sep="\t", index_col=0)
    kept = PermutationResult.load(out).quality.table
    np.testing.assert_allclose(table["correlation"], kept["correlation"])
    invoke("report", out, "--overwrite")
    page = (out / "report.html").read_text()
    assert "1 of 12 maps stands out: sub-04 (correlation)" in page
    assert "Hoaglin" in page


def test_clean_maps_are_told_to_be_clean(tmp_path):
    image = to_image(GEOMETRY, maps(odd=()))
    save_image(image, tmp_path / "maps.nii.gz")
    assert invoke("quality", tmp_path / "maps.nii.gz").stdout == "None of 12 maps stands out.\n"


def test_a_missing_ending_is_refused():
    with pytest.raises(InputError, match="'save'"):
        plotting.quality(cohort(), save="quality")
