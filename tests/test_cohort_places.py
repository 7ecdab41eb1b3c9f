"""Cohorts wherever they lie: on disk, in memory, in an object store. And what can go wrong there."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from numbaglm import cohort as cohorts
from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
from numbaglm.data.cohort.layout import status
from numbaglm.data.storage.locks import LOCK, held
from numbaglm.data.storage.places import Place
from numbaglm.errors import MissingFileError, OutputError, OutputExistsError, StoreError
from reference.maps import AFFINE, volumes, write_maps
from reference.object_store import SECRET


@pytest.fixture
def paths(tmp_path):
    return write_maps(tmp_path / "maps", volumes(7))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (2, 16))


@pytest.mark.usefixtures("small_blocks")
def test_a_cohort_is_the_same_anywhere(anywhere, paths):
    whole, first = Cohort.from_maps(paths), Cohort.from_maps(paths[:4])
    made = Cohort.create(anywhere, paths[:4])
    assert made.fingerprint == Cohort.open(anywhere).fingerprint == first.fingerprint
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        Cohort.create(anywhere, paths[:4])
    made.append(paths[4:])
    again = Cohort.open(anywhere)
    for cohort in (made, again, pickle.loads(pickle.dumps(again))):
        assert cohort.fingerprint == whole.fingerprint
        np.testing.assert_array_equal(cohort.store.read(7, 40), whole.store.read(7, 40))
        np.testing.assert_array_equal(cohort.store.read_subjects(3, 7), whole.store.read_subjects(3, 7))
    again.verify()
    place = Place.parse(anywhere)
    assert again.info()["location"] == str(place) == again.store.location
    assert again.info()["bytes_on_disk"] == place.size() > 7 * 60 * 4
    assert LOCK not in place.children()
    assert not {"data", "mask"} & set(place.children())  # of the four
    more = write_maps(Path(paths[0]).parent / "more", volumes(1, seed=8), suffix=".nii")
    assert again.append(more, subjects=["late"]).n_subjects == 8
    assert len(place.children()) == 2  # the root's attributes, and the newest
    assert Cohort.create(anywhere, paths[:4], overwrite=True).fingerprint == first.fingerprint
    assert sorted(place.children()) == ["data", "hashes", "space", "subjects", "zarr.json"]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("anywhere", ["local", "s3"], indirect=True)
@pytest.mark.parametrize("damage", ["gone", "flipped", "cut"])
def test_damaged_chunks_are_not_read_anywhere(anywhere, paths, damage):
    cohort, place, name = Cohort.create(anywhere, paths), Place.parse(anywhere), "data/c/1/2"
    data = place.read_bytes(name)
    if damage == "gone":
        place.remove(name)
    else:
        place.write_bytes(name, data[:-3] if damage == "cut" else data[:30] + bytes([data[30] ^ 4]) + data[31:])
    for use in (
        lambda: cohort.store.read(33, 34),
        lambda: permutation_test(cohort, n_perm=20, cluster_forming_threshold=None),
        lambda: cohort.to_nifti("sub-04"),
    ):
        with pytest.raises(StoreError, match=r"c/1/2 .*subjects sub-03 to sub-04, voxels 32 to 47\) is"):
            use()
    with pytest.raises(StoreError, match=r"2 of 7 subjects.*\(sub-03, sub-04\)"):
        cohort.verify()
    assert cohort.store.read(0, 32).shape == (7, 32)


@pytest.mark.parametrize("anywhere", ["local", "memory"], indirect=True)
@pytest.mark.parametrize(
    "part", ["space/0/mask/c/0/0/0", "hashes/c/0/0", "subjects/zarr.json", "data/zarr.json", "zarr.json"]
)
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_cohort_that_lost_a_part_does_not_open_anywhere(anywhere, paths, part, damage):
    Cohort.create(anywhere, paths)
    place = Place.parse(anywhere)
    data = place.read_bytes(part)
    place.remove(part)
    if damage == "cut":
        place.write_bytes(part, data[: len(data) // 2])
    with pytest.raises(StoreError, match=r"damaged|not a numbaglm cohort"):
        Cohort.open(anywhere)
    if part == "zarr.json":
        with pytest.raises(OutputExistsError, match="left alone"):
            Cohort.create(anywhere, paths, overwrite=True)
    else:
        Cohort.create(anywhere, paths, overwrite=True).verify()


def test_a_flipped_covariate_is_noticed(tmp_path, paths):
    import pandas as pd

    Cohort.create(tmp_path / "c.zarr", paths, covariates=pd.DataFrame({"age": np.arange(30.0, 37.0)}))
    for name, old, new in [("subjects/zarr.json", "33.0", "73.0"), ("zarr.json", '"intersection"', '"given"')]:
        file = tmp_path / "c.zarr" / name
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        with pytest.raises(StoreError, match="attributes or subject table are not what was stored"):
            Cohort.open(tmp_path / "c.zarr")
        file.write_text(text)
    assert Cohort.open(tmp_path / "c.zarr").n_subjects == 7


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("anywhere", ["local", "s3"], indirect=True)
def test_stopped_and_resumed_anywhere(anywhere, paths, monkeypatch):
    whole, written = Cohort.from_maps(paths), []
    original = writer.CohortWriter.write

    def stop(self, start, rows, *more):
        if len(written) == 2:
            raise KeyboardInterrupt
        note(self, start, rows, *more)

    def note(self, start, rows, *more):
        original(self, start, rows, *more)
        written.append(start)

    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(anywhere, paths, n_workers=1)
    with pytest.raises(StoreError, match=r"[34] of 7 subjects are stored"):
        Cohort.open(anywhere)
    monkeypatch.setattr(writer.CohortWriter, "write", note)
    assert Cohort.create(anywhere, paths).fingerprint == whole.fingerprint
    assert sorted(written) == [0, 2, 4, 6]


KILLED = """
import os, sys
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
writer.choose_chunks = lambda *_: (2, 16)
stage, call, location, *maps = sys.argv[1:]
def die(*_): os._exit(9)
original = {name: getattr(writer, name) for name in ("_update", "_clear", "_empty")}
def write(self, start, rows, *more, first=writer.CohortWriter.write):
    first(self, start, rows, *more)
    die()
def after(name):
    def run(*args, **options):
        original[name](*args, **options)
        if name != "_update" or "current" in options:
            die()
    return run
def halfway(place):
    place.remove("data/c/0/0")
    die()
if stage == "after a block":
    writer.CohortWriter.write = write
elif stage == "complete":
    writer.take_over.__globals__["_update"] = lambda *args, **options: (
        die() if "current" in options else original["_update"](*args, **options))
elif stage == "taken over":
    writer._update = after("_update")
elif stage == "half removed":
    Place = writer.Place
    remove = Place.remove
    Place.remove = lambda self, name="": (remove(self, name), die())
if call == "append":
    Cohort.open(location).append(maps)
else:
    Cohort.create(location, maps, overwrite=True, n_workers=1)
"""


def run_killed(stage, call, location, maps):
    command = [sys.executable, "-c", KILLED, stage, call, str(location), *map(str, maps)]
    environment = {**os.environ, "PYTHONPATH": str(Path(cohorts.__file__).parents[1])}
    assert subprocess.run(command, env=environment, check=False).returncode == 9


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize(("stage", "n_after"), [("after a block", 4), ("complete", 4), ("taken over", 7)])
def test_a_killed_append_leaves_the_old_cohort_or_the_new_one(tmp_path, request, paths, where, stage, n_after):
    location = tmp_path / "c.zarr" if where == "local" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    Cohort.create(location, paths[:4])
    run_killed(stage, "append", location, paths[4:])
    left = Cohort.open(location)
    assert left.n_subjects == n_after
    left.verify()
    if n_after == 4:
        left.append(paths[4:])
    assert Cohort.open(location).fingerprint == Cohort.from_maps(paths).fingerprint
    if n_after == 4:  # what was left is cleared away
        assert len(Place.parse(location).children()) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("stage", ["after a block", "half removed"])
def test_a_killed_creation_is_no_cohort_and_is_gone_on_with(tmp_path, request, caplog, paths, where, stage):
    location = tmp_path / "c.zarr" if where == "local" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    Cohort.create(location, paths[:4])
    run_killed(stage, "create", location, paths)
    assert status(location) == ("writing" if stage == "after a block" else "preparing")
    with pytest.raises(StoreError, match="half-written"):
        Cohort.open(location)
    with caplog.at_level(logging.WARNING):
        assert Cohort.create(location, paths).fingerprint == Cohort.from_maps(paths).fingerprint
    assert ("by a process that is gone" in caplog.text) == (where == "s3")


@pytest.mark.parametrize("anywhere", ["local", "memory"], indirect=True)
def test_one_writes_at_a_time(anywhere, paths):
    place = Place.parse(anywhere)
    with held(place, "The cohort"), pytest.raises(StoreError, match=rf"being written .*process {os.getpid()} on"):
        Cohort.create(anywhere, paths)
    assert not place.exists()
    cohort = Cohort.create(anywhere, paths[:5])
    with held(place, "The cohort"):
        for call in (lambda: Cohort.create(anywhere, paths, overwrite=True), lambda: cohort.append(paths[5:])):
            with pytest.raises(StoreError, match="Wait for it"):
                call()
        assert Cohort.open(anywhere).n_subjects == 5  # reading is free
    stale = Cohort.open(anywhere)
    cohort.append(paths[5:])
    with pytest.raises(StoreError, match="changed since it was opened"):
        stale.append(paths[5:])


@contextmanager
def largest_file(n_bytes):
    """Let the system refuse files that are longer, as a full disk would."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_the_system_refuses(tmp_path):
    import nibabel as nib

    values = np.random.default_rng(0).normal(size=(6, 20, 20, 20)).astype(np.float32)
    maps = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    location = tmp_path / "c.zarr"
    with largest_file(40_000), pytest.raises(OutputError, match=r"c\.zarr.* could not be written.*repeat") as error:
        Cohort.create(location, maps)
    assert error.value.errno == errno.EFBIG
    with pytest.raises(StoreError, match="0 of 6 subjects"):
        Cohort.open(location)
    cohort = Cohort.create(location, maps[:4], overwrite=True)
    with largest_file(40_000), pytest.raises(OutputError, match="could not be written"):
        cohort.append(maps[4:], subjects=["e", "f"])
    left = Cohort.open(location)
    assert left.fingerprint == cohort.fingerprint == Cohort.from_maps(maps[:4]).fingerprint
    left.verify()
    assert "appended" not in " ".join(Place.parse(location).children())


@contextmanager
def forbidden(file):
    """Take the right to read and write away, from root too."""
    mode, root = file.stat().st_mode, os.geteuid() == 0
    file.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        file.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX")
def test_permission_denied(tmp_path, paths):
    cohort = Cohort.create(tmp_path / "c.zarr", paths)
    with forbidden(tmp_path / "c.zarr" / "data"), pytest.raises(StoreError, match=r"can't be read \(PermissionError"):
        cohort.store.read(0, 5)
    with forbidden(tmp_path / "c.zarr" / "data"), pytest.raises(StoreError, match=r"can't be read \(PermissionError"):
        cohort.verify()  # which does not call it damaged
    for refused in (Cohort.open, status):
        with forbidden(tmp_path / "c.zarr"), pytest.raises(StoreError, match=r"can't be read \(PermissionError"):
            refused(tmp_path / "c.zarr")
    (tmp_path / "closed").mkdir()
    with forbidden(tmp_path / "closed"), pytest.raises((OutputError, StoreError), match=r"permission|Permission"):
        Cohort.create(tmp_path / "closed" / "c.zarr", paths)
    with forbidden(tmp_path / "c.zarr" / "zarr.json"), pytest.raises((OutputError, StoreError), match="Permission"):
        cohort.append(volumes_as_images(1), subjects=["late"])
    assert Cohort.open(tmp_path / "c.zarr").fingerprint == cohort.fingerprint


def volumes_as_images(n):
    import nibabel as nib

    return [nib.Nifti1Image(volume, AFFINE) for volume in volumes(n, seed=3)]


def test_credentials_stay_in_the_environment(s3, tmp_path, monkeypatch, caplog, paths):
    if os.environ["AWS_SECRET_ACCESS_KEY"] != SECRET:
        pytest.skip("the server is not ours: its key may be anything")
    monkeypatch.setenv("FSSPEC_S3_SECRET", SECRET)
    url = f"{s3}/{tmp_path.name}/c.zarr"
    with caplog.at_level(logging.DEBUG):
        cohort = Cohort.create(url, paths[:5]).append(paths[5:])
        result = permutation_test(cohort, n_perm=20)
        result.save(tmp_path / "out")
    place = Place.parse(url)
    stored = [place.read_bytes(name) for name in place.list()]
    saved = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    said = [caplog.text, repr(cohort), repr(cohort.store), str(cohort.info()), str(result.provenance)]
    sent = [pickle.dumps(cohort.store), pickle.dumps(writer.CohortWriter.resume(place)), pickle.dumps(place)]
    assert len(stored) > 6
    assert len(saved) > 3
    assert "put_object" in caplog.text.lower() or "PutObject" in caplog.text
    for text in (*stored, *saved, *sent, *(text.encode() for text in said)):
        assert SECRET.encode() not in text


def test_an_object_store_gives_the_same_nulls(s3, tmp_path, paths):
    cohort = Cohort.create(f"{s3}/{tmp_path.name}/c.zarr", paths)
    options = {"n_perm": 50, "cluster_forming_threshold": 0.05, "tfce": True}
    expected, result = permutation_test(Cohort.from_maps(paths), **options), permutation_test(cohort, **options)
    for name, null in expected.h0.items():
        np.testing.assert_array_equal(result.h0[name], null)


@pytest.mark.slow
def test_a_cluster_converts_to_an_object_store_and_reads_it(s3, tmp_path, client, paths):
    cohort = Cohort.create(f"{s3}/{tmp_path.name}/c.zarr", paths[:5], client=client)
    cohort.append(paths[5:], client=client)
    cohort.verify(client=client)
    options = {"n_perm": 50, "cluster_forming_threshold": 0.05, "tfce": True}
    expected = permutation_test(Cohort.from_maps(paths), **options)
    result = permutation_test(cohort, client=client, **options)
    for name, null in expected.h0.items():
        np.testing.assert_array_equal(result.h0[name], null)


@pytest.mark.slow
def test_other_processes_do_not_see_memory(tmp_path, client, paths):
    with pytest.raises((MissingFileError, StoreError), match=r"memory:// is seen by the process that wrote it alone"):
        Cohort.create(f"memory://{tmp_path.name}/a", paths, client=client)
    cohort = Cohort.create(f"memory://{tmp_path.name}/b", paths)
    with pytest.raises(MissingFileError, match=r"memory:// is seen by the process that wrote it alone"):
        permutation_test(cohort, n_perm=20, client=client)
