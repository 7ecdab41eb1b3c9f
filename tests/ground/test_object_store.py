"""An object store that is late, overloaded, or loses connections: the same bits in the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from numbaglm import Cohort, PermutationResult, permutation_test
from reference.faulty_store import KINDS, faulty_server
from reference.maps import volumes, write_maps
from reference.object_store import moto_server

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'numbaglm[s3]'")
pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'")

WORK = """
import sys
from pathlib import Path
from numbaglm import Cohort, permutation_test
from numbaglm.data.cohort import writer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    maps = sorted((folder / "maps").iterdir())
    writer.choose_chunks = lambda *_: (2, 16)
    cohort = Cohort.create("s3://faulty/c.zarr", maps[:5], n_workers=1)
    cohort.append(maps[5:], n_workers=1)
    cohort.verify()
    options = {"n_perm": 60, "cluster_forming_threshold": ("t", 1.0), "n_workers": 1}
    found = permutation_test(Cohort.open("s3://faulty/c.zarr"), store="s3://faulty/run", **options)
    found.save(folder / "out")
    print(cohort.fingerprint)
"""


@pytest.mark.slow
def test_a_server_that_fails_now_and_then_changes_nothing(tmp_path):
    maps = write_maps(tmp_path / "maps", volumes(7))
    (tmp_path / "work.py").write_text(WORK)
    with moto_server() as environment, faulty_server(environment["AWS_ENDPOINT_URL"]) as (endpoint, faults):
        make = "import fsspec; fsspec.filesystem('s3').mkdir('s3://faulty')"
        subprocess.run([sys.executable, "-c", make], env={**os.environ, **environment}, check=True)
        asked = {**os.environ, **environment, "AWS_ENDPOINT_URL": endpoint}
        done = subprocess.run(
            [sys.executable, str(tmp_path / "work.py"), str(tmp_path)],
            env=asked, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(KINDS) <= set(faults.done), faults.done
    expected = Cohort.from_maps(maps)
    assert done.stdout.split() == [expected.fingerprint]
    found = PermutationResult.load(tmp_path / "out")
    options = {"n_perm": 60, "cluster_forming_threshold": ("t", 1.0)}
    for name, null in permutation_test(expected, **options).h0.items():
        assert (found.h0[name] == null).all()
