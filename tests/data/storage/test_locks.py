from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading

import psutil
import pytest

from numbaglm.data.storage import locks
from numbaglm.data.storage.locks import LOCK, held
from numbaglm.data.storage.places import Place
from numbaglm.errors import OutputError, StoreError

kinds = pytest.mark.parametrize("anywhere", ["local", "memory", "s3"], indirect=True)


@kinds
def test_one_holds_it_at_a_time_and_nothing_is_left(anywhere):
    place = Place.parse(anywhere)
    for _ in range(2):
        with held(place, "The run"):
            assert place.children() == [LOCK]
            here = (
                rf"The run .*here is being written by another call \(process {os.getpid()} on {socket.gethostname()}\)"
            )
            with pytest.raises(StoreError, match=here), held(place, "The run"):
                pass
            assert place.children() == [LOCK]
        assert not place.exists()


@kinds
def test_an_error_gives_it_back_and_what_was_written_stays(anywhere):
    place = Place.parse(anywhere)

    def fail():
        with held(place, "The run"):
            place.write_bytes("kept", b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert place.list() == ["kept"]
    with held(place, "The run"):
        pass


def dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        started = locks._started(process.pid)
    return {**locks._numbering(), "pid": process.pid, "started": started, "token": "t"}


@pytest.mark.parametrize("owner", ["dead", "another with its number"])
def test_an_object_that_a_dead_process_left_counts_no_more(owner, caplog):
    place = Place.parse(f"memory://locks/{os.getpid()}/{owner}")
    left = dead_process() if owner == "dead" else {**locks._owner(), "started": 12345.0}
    place.write_bytes(LOCK, json.dumps(left).encode())
    with held(place, "The run"):
        assert json.loads(place.read_bytes(LOCK))["pid"] == os.getpid()
    assert "by a process that is gone" in caplog.text
    assert not place.exists(LOCK)


def test_of_many_that_find_a_dead_one_at_once_one_goes_on(monkeypatch):
    """None of them takes what another has just taken."""
    place, all_found = Place.parse(f"memory://locks/{os.getpid()}/many"), threading.Barrier(8)
    place.write_bytes(LOCK, json.dumps(dead_process()).encode())
    gone, ended, held_by = locks._is_gone, threading.Event(), []

    def together(owner):
        found = gone(owner)
        if owner.get("token") == "t":
            all_found.wait(30)
        return found

    def call(number):
        try:
            with held(place, "The run"):
                held_by.append(number)
                ended.wait(30)
        except StoreError as error:
            assert "is being written by another call" in str(error)  # noqa: PT017
            held_by.append(None)
            if held_by.count(None) == 7:
                ended.set()

    monkeypatch.setattr(locks, "_is_gone", together)
    calls = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for one in calls:
        one.start()
    for one in calls:
        one.join()
    assert held_by.count(None) == 7
    assert len(held_by) == 8
    assert not place.list()


@pytest.mark.parametrize("other", [{"boot": "elsewhere"}, {"pid_namespace": "pid:[7]"}, {"boot": None}])
def test_containers_of_one_host_name_take_nothing_from_each_other(other):
    """Each counts its own processes: that there is none of a number here says nothing of another container."""
    place = Place.parse(f"memory://locks/{os.getpid()}/container")
    place.write_bytes(LOCK, json.dumps(dead_process() | other).encode())
    with pytest.raises(StoreError, match="If that process is gone, delete"), held(place, "The run"):
        pass
    place.remove(LOCK)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of POSIX")
@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_a_lock_that_is_not_ours_is_not_written_to(tmp_path, kind):
    precious, lock = tmp_path / "precious", tmp_path / "run" / LOCK
    precious.write_text("data")
    lock.parent.mkdir()
    {"link": lambda: lock.symlink_to(precious), "second name": lambda: lock.hardlink_to(precious)}.get(
        kind, lambda: os.mkfifo(lock)
    )()
    with (
        pytest.raises(OutputError, match=r"lock.*|.*not a file of numbaglm: delete it"),
        held(Place.parse(tmp_path / "run"), "The run"),
    ):
        pass
    assert precious.read_text() == "data"


@pytest.mark.parametrize("offset", [-5000.0, 5000.0])
def test_a_clock_that_is_set_takes_no_lock_away(monkeypatch, offset):
    """What psutil tells as the start of a process is counted from that of the machine, which moves with the clock."""
    place = Place.parse(f"memory://locks/{os.getpid()}/clock")
    create_time, boot_time = psutil.Process.create_time, psutil.boot_time
    with held(place, "The run"):
        monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + offset)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + offset)
        with pytest.raises(StoreError, match="is being written"), held(place, "The run"):
            pass
    assert not place.exists(LOCK)


OURS = json.dumps({"host": socket.gethostname(), "pid": "?"})


@pytest.mark.parametrize(
    "text", ['{"host": "elsewhere", "pid": 7, "started": 1.0}', "torn", "[" * 10**5, "[]", "", OURS]
)
def test_an_object_that_may_be_in_use_counts(text):
    place = Place.parse(f"memory://locks/{os.getpid()}/other")
    place.write_bytes(LOCK, text.encode())
    with (
        pytest.raises(StoreError, match=r"If that process is gone, delete the object memory://.*/lock"),
        held(place, "It"),
    ):
        pass
    assert place.read_bytes(LOCK) == text.encode()


def test_who_lost_an_object_does_not_give_back_anothers():
    place = Place.parse(f"memory://locks/{os.getpid()}/lost")
    with held(place, "The run"):
        place.write_bytes(LOCK, b"another's")
    assert place.read_bytes(LOCK) == b"another's"


def test_a_file_that_a_killed_process_left_is_no_lock(tmp_path):
    code = f"""
import os
from numbaglm.data.storage.locks import held
from numbaglm.data.storage.places import Place
with held(Place({str(tmp_path / "run")!r}), "The run"):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (tmp_path / "run" / LOCK).exists()
    with held(Place.parse(tmp_path / "run"), "The run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(Place.parse(tmp_path / "run"), "The run"):
        pass
    assert "has no locks" in caplog.text


def test_a_place_that_takes_no_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="could not be written"),
        held(Place.parse(tmp_path / "file" / "x"), "The run"),
    ):
        pass


NAMES = re.compile("run-[0-9]+")


def left(place, owner):
    place.write_bytes("record", b"1")
    if owner is not None:
        place.write_bytes(LOCK, owner if isinstance(owner, bytes) else json.dumps(owner).encode())


@kinds
def test_folders_of_the_dead_alone_are_swept(anywhere):
    above, dead = Place.parse(anywhere), dead_process()
    left(above / "run-1", dead)
    left(above / "run-2", {**dead, "host": "another"})
    left(above / "run-3", {**dead, "boot": "earlier"})
    left(above / "run-4", {**dead, "pid_namespace": "pid:[1]"})
    left(above / "run-5", None)
    left(above / "run-6", b"{")
    left(above / "runs", dead)
    (above / "run-7").write_bytes("record", b"1")
    locks.mark(above / "run-7")
    locks.sweep_left(above, NAMES)
    locks.sweep_left(above / "not there", NAMES)
    assert above.children() == ["run-2", "run-3", "run-4", "run-5", "run-6", "run-7", "runs"]


def test_links_and_folders_of_others_are_not_swept(tmp_path, monkeypatch):
    left(Place.parse(tmp_path / "elsewhere"), dead_process())
    (tmp_path / "run-1").symlink_to(tmp_path / "elsewhere")
    locks.sweep_left(Place.parse(tmp_path), NAMES)
    assert (tmp_path / "elsewhere" / "record").exists()
    left(Place.parse(tmp_path / "run-2"), dead_process())
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    locks.sweep_left(Place.parse(tmp_path), NAMES)
    assert (tmp_path / "run-2" / "record").exists()


def test_nothing_is_swept_where_machines_of_one_name_cannot_be_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_numbering", lambda: {"host": "mac", "boot": None, "pid_namespace": None})
    left(Place.parse(tmp_path / "run-1"), dead_process())
    locks.sweep_left(Place.parse(tmp_path), NAMES)
    assert (tmp_path / "run-1" / "record").exists()
