"""What macOS and Windows lack or do otherwise, by a double of each on this system."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import numbaglm as ng
from numbaglm.errors import InputError, NumbaglmError
from reference import other_systems
from reference.maps import volumes, write_maps

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the doubles are of Linux")


@pytest.mark.slow
@pytest.mark.parametrize("double", other_systems.DOUBLES)
def test_a_study_is_the_same_there(tmp_path, double):
    command = [sys.executable, "-W", "error", other_systems.__file__, str(tmp_path), double]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["con", "NUL", "aux", "COM1", "Lpt9"])
def test_names_that_are_devices_of_windows_name_no_layer(tmp_path, name):
    maps = write_maps(tmp_path / "maps", volumes(3))
    with pytest.raises(InputError, match="Windows"):
        ng.Cohort.create(tmp_path / "c.zarr", maps, layers={name: maps})
    assert not (tmp_path / "c.zarr").exists()


def test_long_paths(tmp_path):
    """Longer than 260 letters, which Windows once allowed; a part that no system has room for is refused."""
    deep = tmp_path.joinpath(*["a-folder-of-forty-letters-" + "x" * 14] * 8)
    maps = write_maps(deep / "maps", volumes(3))
    cohort = ng.Cohort.create(deep / "c.zarr", maps)
    found = ng.permutation_test(cohort, n_perm=9, cluster_forming_threshold=None, store=deep / "run")
    assert len(str(found.save(deep / "out"))) > 260
    loaded = ng.PermutationResult.load(deep / "out")
    np.testing.assert_array_equal(loaded.maps["t"], found.maps["t"])
    for use in (
        lambda: found.save(tmp_path / ("x" * 300)),
        lambda: ng.Cohort.create(tmp_path / ("x" * 300), maps),
        lambda: ng.permutation_test(cohort, n_perm=9, store=tmp_path / ("x" * 300)),
    ):
        with pytest.raises(NumbaglmError, match="too long"):
            use()
    assert [one.name for one in tmp_path.iterdir()] == [deep.relative_to(tmp_path).parts[0]]
