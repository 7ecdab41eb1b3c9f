from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from numbaglm.data.storage import places
from numbaglm.data.storage.files import PARTIAL
from numbaglm.data.storage.places import Place
from numbaglm.errors import InputError, MissingExtraError, MissingFileError, OutputError, StoreError


def test_files_are_written_read_listed_and_removed(anywhere):
    place = Place.parse(anywhere)
    assert not place.exists()
    assert (place.list(), place.children(), place.size()) == ([], [], 0)
    place.write_bytes("deep/down/a", b"123")
    place.write_bytes("deep/b", b"old")
    place.write_bytes("deep/b", b"new!", sync=False)
    assert place.read_bytes("deep/b") == b"new!"
    assert [place.exists(name) for name in ("", "deep", "deep/b", "deep/c", "dee")] == [True, True, True, False, False]
    assert place.list() == ["deep/b", "deep/down/a"]
    assert place.list("deep/down") == place.list("deep/down/a") == ["deep/down/a"]
    assert (place / "deep").list() == ["b", "down/a"]
    assert (place / "deep").children() == ["b", "down"]
    assert place.list("dee") == []
    assert (place.size(), place.size("deep/b"), place.size("none")) == (7, 4, 0)
    for name in ("deep/b", "deep/b", "deep", "deep", ""):
        place.remove(name)
    assert place.list() == []
    with pytest.raises(MissingFileError, match="deep/b does not exist"):
        place.read_bytes("deep/b")


def test_what_others_delete_while_it_is_listed_is_not_there(tmp_path, monkeypatch):
    place, walk = Place.parse(tmp_path), os.walk
    place.write_bytes("kept", b"123")
    place.write_bytes("deep/lock", b"1")

    def late(top):
        for folder, folders, names in walk(top):
            if "lock" in names:
                Path(folder, "lock").unlink()
            yield folder, folders, names

    monkeypatch.setattr(os, "walk", late)
    assert (place.list(), place.size()) == (["kept"], 3)
    place.remove()
    assert place.list() == []


def test_half_files_of_a_killed_process_are_swept(tmp_path):
    place = Place.parse(tmp_path / "here")
    place.sweep()
    place.write_bytes("deep/kept", b"1")
    for name in (f".kept.{'4f' * 16}.partial", f"zarr.{'0a' * 16}.partial", "somebody's.partial"):
        (tmp_path / "here" / "deep" / name).write_text("half")
    place.sweep()
    assert sorted(path.name for path in (tmp_path / "here" / "deep").iterdir()) == ["kept", "somebody's.partial"]
    Place.parse("memory://swept").sweep()


def test_of_two_that_write_something_new_one_does(anywhere):
    place, both, made = Place.parse(anywhere), threading.Barrier(2, timeout=10), []

    def make(data):
        both.wait()
        if place.write_new("lock", data):
            made.append(data)

    threads = [threading.Thread(target=make, args=(data,)) for data in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert place.read_bytes("lock") == made[0]
    assert not place.write_new("lock", b"three")
    assert place.list() == ["lock"]


def test_a_folder_that_knows_no_links_still_makes_files(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = Place.parse(tmp_path)
    assert place.write_new("lock", b"1")
    assert not place.write_new("lock", b"2")
    assert place.read_bytes("lock") == b"1"


def test_zarr_stores(anywhere):
    place = Place.parse(anywhere)
    group = zarr.create_group((place / "group").zarr_store())
    group.create_array("x", shape=(4,), chunks=(2,), dtype="f4")[:] = [1, 2, 3, 4]
    again = zarr.open_group((place / "group").zarr_store(read_only=True), mode="r")
    np.testing.assert_array_equal(again["x"][:], [1, 2, 3, 4])
    assert place.exists("group/x/zarr.json")


def test_places_travel_as_their_url(anywhere):
    place = Place.parse(anywhere)
    place.exists()
    packed = pickle.dumps(place)
    assert pickle.loads(packed) == place == Place.parse(str(place))
    assert len(packed) < 200 + len(str(place))
    assert place.name == "here"


def test_local_places_are_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Place(str(tmp_path / "a b.zarr"))
    assert here.local
    assert here.path == tmp_path / "a b.zarr"
    for same in ("a b.zarr", Path("a b.zarr"), "./x/../a b.zarr", here.path.as_uri(), here):
        assert Place.parse(same) == here
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Place.parse("~/a b.zarr") == here
    assert Place.parse(tmp_path / "x" / ".." / "a b.zarr") == here


@pytest.mark.parametrize("wrong", ["", 3, None, "file://host/x", "file://x", "s3://", "memory:///", "nothing://b/c"])
def test_what_is_no_place(wrong):
    if wrong == "s3://":
        pytest.importorskip("s3fs")
    with pytest.raises(InputError, match=r"'where'.*Allowed"):
        Place.parse(wrong, "where")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hunter2@bucket/c.zarr",
        "s3://AKIA:hunter2/with/slashes@bucket/c.zarr",
        "https://host/c.zarr?X-Amz-Signature=hunter2",
        "simplecache::s3://AKIA:hunter2@bucket/c.zarr",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(InputError, match="environment") as error:
        Place.parse(url)
    assert "hunter2" not in str(error.value)


def test_chains_are_refused():
    with pytest.raises(InputError, match="out of date"):
        Place.parse("simplecache::memory://x")


def test_a_port_and_an_at_sign_are_no_password():
    assert not places._PASSWORD.search("sftp://host:22/data@home")
    assert places._PASSWORD.search("sftp://me:22@host/data")


@pytest.mark.parametrize(("url", "fix"), [("s3://bucket/x", r'numbaglm\[s3\]"'), ("gs://bucket/x", "gcsfs")])
def test_a_missing_package_is_named(monkeypatch, url, fix):
    def fail(*_, **__):
        raise ImportError("Install gcsfs")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    places._filesystem.cache_clear()
    with pytest.raises(MissingExtraError, match=fix):
        Place.parse(url)


def test_the_systems_refusals_become_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file could not be written .*permissions") as error:
        Place.parse(tmp_path / "file").write_bytes("x", b"1")
    assert error.value.errno is not None
    with pytest.raises(StoreError, match="can't be read"):
        Place.parse(tmp_path).read_bytes("")


@pytest.mark.usefixtures("s3")
def test_what_an_object_store_refuses():
    nowhere = Place("s3://no-such-bucket/x")
    assert not nowhere.exists()
    with pytest.raises(OutputError, match=r"no-such-bucket/x could not be written.*environment"):
        nowhere.write_bytes("a", b"1")


def test_a_place_that_cant_be_reached_is_named(monkeypatch):
    def refuse(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(places, "_open", refuse)  # as ftp:// does, which connects at once
    with pytest.raises(StoreError, match=r"ftp://server/run can't be reached \(ConnectionRefusedError"):
        Place.parse("ftp://server/run")


def test_errors_of_any_library_become_ours(monkeypatch):
    class NoAnswer(Exception):  # as botocore's, no OSError
        pass

    def fail(*_, **__):
        raise NoAnswer("Could not connect to the endpoint")

    place = Place.parse("memory://x/y")
    monkeypatch.setattr(places, "_open", fail)
    for read in (place.exists, place.list, place.children, lambda: place.read_bytes("a"), place.size):
        with pytest.raises(StoreError, match=r"memory://x/y.* can't be read \(NoAnswer.*environment"):
            read()
    for write in (lambda: place.write_bytes("a", b""), place.remove):
        with pytest.raises(OutputError, match=r"memory://x/y could not be written \(NoAnswer.*environment"):
            write()


def test_what_was_killed_while_writing_is_not_seen(tmp_path):
    place = Place.parse(tmp_path)
    place.write_bytes("whole", b"1")
    (tmp_path / f"torn.0123{PARTIAL}").write_bytes(b"to")
    assert place.list() == ["whole"]
    assert place.size() == 1


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    place = Place.parse(tmp_path)
    place.write_bytes("a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left") as error:
        place.write_bytes("a", b"new")
    assert error.value.errno == 28
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert place.read_bytes("a") == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_pipe_in_a_zarr_store_is_not_waited_for(tmp_path):
    """Zarr opens it in a thread, which no signal ends."""
    os.mkfifo(tmp_path / "zarr.json")
    with pytest.raises(OSError, match="a pipe or a device"):
        zarr.open_group(Place.parse(tmp_path).zarr_store(read_only=True), mode="r", zarr_format=3)
