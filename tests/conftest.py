from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from reference.dask_cluster import Cluster
from reference.object_store import moto_server

# The same examples on every run: a failure is a change of the code. "ci" tries more of them.
for profile, n_examples in (("dev", 12), ("ci", 50)):
    settings.register_profile(
        profile,
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


# Where numbaglm meets what it stands on: formats, tables, storage, formulas, figures, commands. A minute in all.
_VERSIONS = (
    *("data/images", "data/cohort", "data/runs", "data/test_tables.py", "stats/test_formula.py", "test_readme.py"),
    *("engine/test_quality.py", "display/test_design.py", "display/test_carpet.py", "results/test_saved.py"),
    *("results/test_record.py", "faces/cli/test_habits.py", "spaces/test_surface.py", "kernels/test_jit.py"),
    "ground/test_dependencies.py",
)


def pytest_collection_modifyitems(items):
    for item in items:
        where = item.path.relative_to(Path(__file__).parent).as_posix() if "tests" in item.path.parts else ""
        if where.startswith(_VERSIONS) and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.versions)


def pytest_runtest_logreport(report):
    _note_skipped(report)


def pytest_collectreport(report):
    _note_skipped(report)


def _note_skipped(report):
    """Append what is skipped to the file NUMBAGLM_SKIPPED: `pytest @FILE` tries it where more packages are."""
    file = os.environ.get("NUMBAGLM_SKIPPED")
    if file and report.skipped and report.nodeid:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{report.nodeid}\n")


@pytest.fixture(scope="session")
def as_cohort():
    """Make an in-memory cohort of data (n_subjects, n_voxels); in one long row of voxels, or in a mask."""

    def make(Y, mask=None, **header):
        mask = np.ones((Y.shape[1], 1, 1), bool) if mask is None else mask
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        return Cohort(CohortStore.from_array(np.asarray(Y, np.float32), Geometry(mask, affine), **header))

    return make


@pytest.fixture(scope="session")
def s3():
    """URL of a new folder: on moto's server, or in the bucket NUMBAGLM_S3 of the server that the environment names."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'numbaglm[s3]'")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        url = os.environ.get("NUMBAGLM_S3")
        if url is None:
            pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'")
            for name, value in stack.enter_context(moto_server()).items():
                patch.setenv(name, value)
            import fsspec

            url = "s3://numbaglm-tests"
            fsspec.filesystem("s3").mkdir(url)
        yield f"{url}/{uuid.uuid4().hex}"


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler, whose workers the test starts and may harm."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def client(s3, tmp_path_factory):
    """Client of two worker processes, which find the object store."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start_workers(2)
    with cluster.client() as client:
        yield client
    cluster.stop()


@pytest.fixture(params=["local", "file", "memory", "s3"])
def anywhere(request, tmp_path):
    """Path or URL of a folder that is not there yet: on disk, in memory, in an object store."""
    name = uuid.uuid4().hex
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{name}/here"
    return {
        "local": str(tmp_path / "here"),
        "file": (tmp_path / "with space" / "here").as_uri(),
        "memory": f"memory://{name}/here",
    }[request.param]
