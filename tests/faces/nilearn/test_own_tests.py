"""nilearn's own tests, run against the drop-ins: what the installed nilearn 0.14.1 tests of them must hold here.

Its test files are copied with the drop-ins imported in place of nilearn's functions, and those tests that use one of
them are run by pytest in a process of their own, and must pass, but for the two of `DONE_HERE`. Left out are those of a
model's files (glm/tests/test_io.py), which have a face of their own here.

Of the tests of reports (glm/tests/test_glm_reporter.py) those are run that have `SecondLevelModel` or "slm" in their
name, and those that report the first-level model of the fixture `flm`, of a second-level model in its place. Left out
are those that make a first-level model of their own, and one on an argument that first-level models ignore. They look
for nilearn's words, which must be in our page too, and for its markup and its words on first-level models, in whose
place they look for ours (`IN_OUR_PAGE`).
"""

import ast
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

nilearn = pytest.importorskip("nilearn")
if nilearn.__version__ != "0.14.1":
    pytest.skip("The list of differences is that of nilearn 0.14.1", allow_module_level=True)

DROP_INS = {
    "HTMLReport": "numbaglm.display.html_report",
    "SecondLevelModel": "numbaglm",
    "cluster_level_inference": "numbaglm",
    "get_clusters_table": "numbaglm",
    "make_second_level_design_matrix": "numbaglm",
    "non_parametric_inference": "numbaglm",
    "permuted_ols": "numbaglm",
    "threshold_stats_img": "numbaglm",
}
FILES = (
    "glm/tests/test_baseline_comparisons.py",
    "glm/tests/test_design_matrix.py",
    "glm/tests/test_non_parametric_inference.py",
    "glm/tests/test_second_level.py",
    "glm/tests/test_thresholding.py",
    "mass_univariate/tests/test_permuted_least_squares.py",
    "reporting/tests/test_get_clusters_table.py",
)
REPORT_FILES = ("glm/tests/test_glm_reporter.py", "reporting/tests/_testing.py")
IN_OUR_PAGE = {
    '<nav class="navbar pure-g fw-bold" id="menu"': '<nav aria-label="Sections"',
    "Adapted from Pure CSS navbar": "</nav>",
    '<a id="navbar-contrasts-link': '<a href="#contrasts"',
    '<a id="navbar-matrix-link': '<a href="#design-matrix"',
    '<a href="#statistical-maps': '<a href="#statistical-maps"',
    'id="design-matrix-': 'id="design-matrix"',
    'id="mask-': 'id="mask"',
    'id="statistical-maps-': 'id="statistical-maps"',
    "glover": "ordinary least squares",
    "cosine": "ordinary least squares",
}
SECOND_LEVEL = """
@pytest.fixture
def flm(rk):
    import nibabel
    rng = np.random.default_rng(0)
    maps = [nibabel.Nifti1Image(rng.normal(size=(7, 7, 7)), np.eye(4)) for _ in range(9)]
    return SecondLevelModel().fit(maps, design_matrix=pd.DataFrame(rng.normal(size=(9, rk)), columns=list("abc")))
"""
DIFFERENT = {
    "test_all_resolution_inference_shape_errors",  # it wants a class of nilearn's
    "test_cluster_level_inference_surface_realistic_data",  # of vertices that are neighbours by their numbers
}
ESTIMATOR_CHECKS = {"test_check_estimator_sklearn", "test_check_estimator_nilearn"}

# It expects a warning that clusters and TFCE are left out on surfaces: here they are not.
DONE_HERE = {"test_with_surface_images_warnings[kwargs0]", "test_with_surface_images_warnings[kwargs1]"}

# The one check of an estimator that fails.
EXPECTED_CHECK = "check_doc_link"  # it expects a link to nilearn's own documentation


def names_in(node):
    """Names that a definition refers to, those of fixtures included."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return names | {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}


def with_drop_ins(source, left_out):
    """Import the drop-ins, and leave out the tests that use none of them, directly or through a helper."""
    tree = ast.parse(source)
    uses = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            uses[node.name] = names_in(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            uses[node.targets[0].id] = names_in(node.value)
    found = set(DROP_INS)
    while more := {name for name, names in uses.items() if names & found} - found:
        found |= more

    class Edit(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            wanted = not node.name.startswith("test_") or names_in(node) & found
            return self.generic_visit(node) if wanted and node.name not in left_out else ast.Pass()

        def visit_ImportFrom(self, node):
            if left_out and node.module == "nilearn._utils.estimator_checks":
                return None
            ours = [ast.ImportFrom(DROP_INS[one.name], [one], 0) for one in node.names if one.name in DROP_INS]
            theirs = [alias for alias in node.names if alias.name not in DROP_INS]
            copied = node.module == "nilearn.reporting.tests._testing"
            return [*ours, *([ast.ImportFrom("_testing" if copied else node.module, theirs, 0)] if theirs else [])]

        def visit_Constant(self, node):
            return ast.Constant(IN_OUR_PAGE.get(node.value, node.value))

    return ast.unparse(ast.fix_missing_locations(Edit().visit(tree)))


def copy_tests(folder, files, left_out, added=""):
    root = Path(nilearn.__file__).parent
    shutil.copy(root / "conftest.py", folder)
    for file in map(Path, files):
        place = folder / file.parts[0]
        place.mkdir(exist_ok=True)
        for other in (root / file.parent).iterdir():
            if other.name == "conftest.py" or other.suffix == ".npz":
                shutil.copy(other, place)
        (place / file.name).write_text(with_drop_ins((root / file).read_text(encoding="utf-8") + added, left_out))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    thread_unsafe\n    single_process\n    slow\n")


def run(folder, *arguments):
    """Run pytest in a folder: names of the tests that were run, and what those say that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    cases = ET.parse(folder / "out.xml").getroot().iter("testcase")
    results = {
        case.attrib["name"]: [one.attrib.get("message", "") for one in case if one.tag != "skipped"] for case in cases
    }
    return set(results), {name: messages for name, messages in results.items() if messages}


@pytest.mark.slow
def test_functions(tmp_path):
    copy_tests(tmp_path, FILES, left_out=ESTIMATOR_CHECKS | DIFFERENT)
    names, failed = run(tmp_path)
    assert set(failed) == DONE_HERE
    assert len(names) == 230


@pytest.mark.slow
def test_reports(tmp_path, monkeypatch):
    copy_tests(tmp_path, REPORT_FILES, left_out=ESTIMATOR_CHECKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "reporting"))
    names, failed = run(tmp_path, "-k", "slm or SecondLevelModel")
    assert failed == {}
    assert len(names) == 7


@pytest.mark.slow
def test_reports_of_first_level_models(tmp_path, monkeypatch):
    source = (Path(nilearn.__file__).parent / REPORT_FILES[0]).read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    others = {node.name for node in tests if "flm" not in [one.arg for one in node.args.args]}
    others |= {"test_flm_report_invalid_param", "test_slm_with_flm_as_inputs"}
    copy_tests(tmp_path, REPORT_FILES, others, added=SECOND_LEVEL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "reporting"))
    names, failed = run(tmp_path)
    assert failed == {}
    assert len(names) == 21


@pytest.mark.slow
def test_estimator(tmp_path):
    """Its and scikit-learn's checks of estimators."""
    pytest.importorskip("polars")
    copy_tests(tmp_path, ["glm/tests/test_second_level.py"], left_out=set())
    names, failed = run(tmp_path, "-k", "check_estimator")
    assert [name for name in failed if f"-{EXPECTED_CHECK}-" not in name] == []
    assert len(failed) == 1
    assert len(names) > 20
