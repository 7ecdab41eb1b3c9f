import ast
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import numbaglm

HEAVY = ("numba", "dask", "distributed", "zarr", "matplotlib", "nibabel", "pandas", "scipy", "numpy", "nilearn")


@pytest.mark.parametrize("module", ["numbaglm", "numbaglm.faces.commands"])
def test_importing_loads_none_of_the_dependencies(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


NOT_IN_A_PLAIN_TEST = (
    *("scipy.stats", "scipy.optimize", "scipy.interpolate", "scipy.sparse", "matplotlib", "formulaic"),
    *("distributed", "nilearn", "click", "numbaglm.display", "numbaglm.faces", "numbaglm.results.report"),
    *("numbaglm.spaces.surface", "numbaglm.spaces.cifti", "numbaglm.data.images.element_writing", "xml.sax"),
    *("numbaglm.stats.tails", "numbaglm.stats.variance.components", "numbaglm.stats.shuffling.own"),
)
PLAIN_TEST = """
import sys, nibabel, numpy as np, numbaglm
for number, one in enumerate(np.random.default_rng(0).normal(size=(6, 4, 5, 6))):
    nibabel.Nifti1Image(one, np.eye(4)).to_filename(f"{sys.argv[1]}/sub-{number}.nii")
maps = [f"{sys.argv[1]}/sub-{number}.nii" for number in range(6)]
print(numbaglm.permutation_test(maps, n_perm=20, cluster_forming_threshold=("t", 2.0)).maps["t"].shape)
print(*sorted(sys.modules))
"""


def test_a_plain_test_loads_what_it_needs_alone(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", PLAIN_TEST, tmp_path], capture_output=True, text=True, check=True
    ).stdout
    shape, loaded = told.splitlines()
    assert shape == "(120,)"
    assert set(loaded.split()) & set(NOT_IN_A_PLAIN_TEST) == set()
    prefix = "numbaglm.stats.families."
    families = {name.removeprefix(prefix) for name in loaded.split() if name.startswith(prefix)}
    assert families == {"family", "t_f"}, "others are loaded where they are asked for"


def test_every_public_name_is_there():
    for name in numbaglm.__all__:
        assert getattr(numbaglm, name) is not None
        assert name in dir(numbaglm)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = numbaglm.nothing


ROOT = Path(numbaglm.__file__).parent
MODULES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))
NOT_CODE = {"importlib.metadata", "importlib.resources", "importlib.util"}  # what is installed, and files beside code


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_uses_stands_in_its_imports(module):
    """A name that is looked up at run time is an import that no contract sees."""
    hidden = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            hidden |= {one.name for one in node.names if one.name.split(".")[0] == "importlib"}
        elif isinstance(node, ast.ImportFrom) and node.module == "importlib":
            hidden |= {f"importlib.{one.name}" for one in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            hidden |= {node.func.id} & {"__import__", "locals"}
    assert hidden <= NOT_CODE


# What others test, whole: constants, re-exports (test_public.py) and the way in; what the compiler runs
# (kernels/panels/test_vectors.py, test_widths.py); data that the page of a model is handed (test_model_report.py);
# spaces and their images (test_parts.py, test_elements.py); the functions of saved datasets (test_maps.py,
# test_results.py).
WITHOUT_TESTS = {
    "__main__.py",
    "data/images/cifti.py",
    "data/images/element_listing.py",
    "data/images/element_writing.py",
    "data/images/meshes.py",
    "data/geometry.py",
    "engine/plan.py",
    "faces/html_report.py",
    "faces/nilearn/model/record.py",
    "faces/plotting.py",
    "faces/report.py",
    "kernels/_llvm.py",
    "plotting.py",
    "results/bids/api.py",
    "spaces/cifti.py",
    "spaces/graphs.py",
    "spaces/network.py",
    "spaces/parcels.py",
    "arrays.py",
    "version.py",
}


def test_a_module_has_a_test_file_of_its_own_name():
    tests = Path(__file__).parent
    lacking = {
        module
        for module in map(Path, MODULES)
        if module.name != "__init__.py" and not (tests / module.parent / f"test_{module.stem.lstrip('_')}.py").exists()
    }
    assert {module.as_posix() for module in lacking} == WITHOUT_TESTS


def test_the_conda_recipe_has_what_the_package_needs():
    names = {"matplotlib": "matplotlib-base", "xxhash": "python-xxhash"}  # as conda-forge calls them
    root = Path(__file__).parents[1]
    asked = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = set()
    for one in asked:
        name, least = one.split(">=")
        wanted.add((names.get(name, name).removesuffix("[distributed]"), least))
        if name.endswith("[distributed]"):
            wanted.add(("distributed", least))
    recipe = (root / "packaging" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    assert {tuple(line.strip(" -").split(" >=")) for line in run.splitlines()} - {("python", "3.11")} == wanted


def test_no_folder_holds_more_than_a_dozen_modules():
    sizes = Counter(str(Path(module).parent) for module in MODULES if not module.endswith("__init__.py"))
    assert {folder: n for folder, n in sizes.items() if n > 12} == {}
