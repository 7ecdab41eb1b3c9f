import subprocess
import sys

import pytest

import numbaglm

HEAVY = ("numba", "dask", "distributed", "zarr", "matplotlib", "nibabel", "pandas", "scipy", "numpy", "nilearn")


@pytest.mark.parametrize("module", ["numbaglm", "numbaglm.faces.cli.main"])
def test_importing_loads_none_of_the_dependencies(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_every_public_name_is_there():
    for name in numbaglm.__all__:
        assert getattr(numbaglm, name) is not None
        assert name in dir(numbaglm)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = numbaglm.nothing
