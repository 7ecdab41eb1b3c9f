from __future__ import annotations

import numpy as np
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.quality import examine
from numbaglm.results.reporting import words
from numbaglm.results.reporting.tables import (
    cluster_table,
    cluster_text,
    coverage_table,
    cubic,
    find_peaks,
    null_table,
    number,
    p_cell,
    peak_distance,
    peak_table,
    quality_table,
    short,
    times,
    weight_rows,
    xyz_cells,
)
from numbaglm.spaces.volume import Geometry
from reference.reports import analysed, asked, ball


def test_the_table_of_maps_holds_all_that_stand_out_first():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(120, ball().n_voxels)) + rng.normal(size=ball().n_voxels)
    Y += rng.permutation(np.linspace(-0.3, 0.3, 120))[:, None]
    Y[100] += 9
    Y[110] *= -1
    found = examine(CohortStore.from_array(Y, ball()))
    table = quality_table(found)
    assert [row.cells[0].text for row in table.rows[:3]] == ["subject-101", "subject-111", "subject-001"]
    assert (len(table.rows), table.n_more) == (50, 70)
    columns = [name for name, _ in table.columns]
    marked = [[name for name, cell in zip(columns, row.cells, strict=True) if cell.significant] for row in table.rows]
    assert marked == [["mean"], ["correlation"], *[[]] * 48]
    assert words.on_quality(found)[0].startswith("2 of 120 maps stand out: subject-101 (mean), subject-111 (corr")


def test_places_have_digits_where_voxels_are_small():
    store, design = asked()[0].store, asked()[1]
    small = Geometry(store.geometry.mask, store.geometry.affine * [[0.05], [0.05], [0.05], [1.0]])
    one = permutation_test(Cohort(CohortStore.from_array(store.data, small)), design, "intercept", n_perm=20)
    peaks = [row.cells[2].text for row in cluster_table(one).rows]
    assert all(len(text.partition(".")[2]) == 1 for text in peaks)
    assert len(set(peaks)) > 1
    assert peak_distance(small) == pytest.approx(15 * 0.15 / 20)
    volumes = [float(row.cells[8].text) for row in cluster_table(one).rows]
    np.testing.assert_allclose(volumes, one.clusters["size_mm3"], rtol=0.01)
    assert dict(words.about_data(one))["Volume"] == f"{small.n_voxels * 0.15**3:.3g} mm\u00b3"
    assert f"  {volumes[0]:.3g}  " in words.describe(one)


@pytest.mark.parametrize("options", [{"variance_groups": np.repeat([0, 1], 7)}, {"tail": "gamma", "n_perm": 150}])
def test_the_table_of_nulls_tells_the_p_of_the_maps(options):
    one = analysed(**({"n_perm": 30} | options))
    found = {row.cells[0].text: row.cells[3].value for row in null_table(one).rows}
    top = one.clusters.loc[one.clusters["mass"].idxmax()]
    assert found["maximum cluster mass"] == top.p_fwe_mass
    assert found[f"maximum {one.max_statistic[4:]}"] == one.maps["p_fwe_voxel"].min()


@pytest.mark.parametrize(
    ("p", "text", "significant"),
    [
        (0.05, "0.0500", True),
        (0.05001, "0.0500", False),
        (5e-5, "0.0001", True),
        (2.2e-6, "2e\u221206", True),
        (0.0, "0", True),
    ],
)
def test_p_are_written_in_four_digits_or_as_powers(p, text, significant):
    cell = p_cell(p, 0.05)
    assert (cell.text, cell.value, cell.significant, cell.note) == (text, p, significant, "")
    assert p_cell(0.2, 0.05, (0.0, 0.30001)).note == "[0, 0.3000]"


def test_numbers_are_written_as_they_are_read():
    assert number(-12345.678) == "\u221212,345.68"
    assert short(-0.00012345) == "\u22120.000123"
    assert (cubic(12345.6), cubic(0.0271)) == ("12,346", "0.0271")
    assert times((2, 2.5, 1 / 3)) == "2 \u00d7 2.5 \u00d7 0.333"
    assert [cell.text for cell in xyz_cells((-0.04, 3.25, -6.0), 1)] == ["0.0", "3.2", "\u22126.0"]
    assert weight_rows(["a", "b"], [[1, -0.5], [0, 2]]) == [("a", ["1", "0"]), ("b", ["\u22120.5", "2"])]


def test_a_table_in_text_has_a_line_a_cluster(result):
    lines = cluster_text(result.clusters, "t", 1).splitlines()
    assert len({len(line) for line in lines[1:3]}) == 1
    assert lines[-1] == f"... {len(result.clusters) - 1} more"
    assert lines[2].split()[0] == "1"
    assert cluster_text(result.clusters.head(0), "t") == "No cluster at this threshold."


def test_peaks_stand_in_their_table_with_their_values(result):
    table = peak_table(result)
    peaks = find_peaks(result)
    assert [row.cells[0].value for row in table.rows] == [cluster for cluster, _ in peaks]
    for row, (_, voxel) in zip(table.rows, peaks, strict=True):
        assert row.mm == pytest.approx(tuple(result.geometry.coordinates(np.array([voxel]))[0]))
        assert row.cells[4].value == result.maps["t"][voxel]
    assert [name for name, _ in table.columns[:5]] == ["cluster", "x", "y", "z", "t"]


def test_coverage_is_a_table_of_how_many_have_a_value():
    store = asked()[0].store
    rng = np.random.default_rng(0)
    present = rng.random(store.data.shape) < np.linspace(1.2, 0.4, store.n_voxels)
    present[:4] = False
    present[:, :50] = True
    cohort = Cohort(CohortStore.from_array(np.where(present, store.data, 0), store.geometry, present=present))
    found = permutation_test(cohort, n_perm=20, missing="element")
    table, n = coverage_table(found), present.sum(axis=0)
    assert len(table.rows) == len(np.unique(n)) <= 12
    assert [row.cells[0].value for row in table.rows] == sorted(set(n.tolist()), reverse=True)
    for row in table.rows:
        those = n == row.cells[0].value
        assert row.cells[1].value == those.sum()
        assert row.cells[3].text == ("" if row.cells[0].value < 3 else str(row.cells[0].value - 1))
        assert row.cells[4].value == (those & (n < 3)).sum()
    assert sum(row.cells[2].value for row in table.rows) == pytest.approx(100)
    assert coverage_table(permutation_test(cohort, n_perm=20)) is None
    assert coverage_table(permutation_test(asked()[0], n_perm=20, missing="element")) is None


def test_coverage_of_many_numbers_is_told_in_ranges():
    n_subjects = 40
    data = np.random.default_rng(0).normal(size=(n_subjects, 27)).astype(np.float32)
    present = np.arange(n_subjects)[:, None] < np.maximum(n_subjects - np.arange(27), 5)
    store = CohortStore.from_array(
        np.where(present, data, 0), Geometry(np.ones((3, 3, 3), bool), np.eye(4)), present=present
    )
    table = coverage_table(permutation_test(Cohort(store), n_perm=20, missing="element"))
    assert len(table.rows) == 12
    assert [row.cells[0].text for row in table.rows[:2]] == ["40", "37 to 39"]
    assert table.rows[1].cells[3].text == "36 to 38"
    assert sum(row.cells[1].value for row in table.rows) == 27
