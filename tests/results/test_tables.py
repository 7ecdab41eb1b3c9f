from __future__ import annotations

import numpy as np
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.quality import examine
from numbaglm.results import words
from numbaglm.results.tables import cluster_table, null_table, peak_distance, quality_table
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
