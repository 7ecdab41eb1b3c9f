import os
import subprocess
import sys
from pathlib import Path

import pytest

from numbaglm.data.storage.folders import check_apart, check_free, whole_folder
from numbaglm.errors import InputError, OutputError, OutputExistsError

MARKER = "fit.json"


def write(target, text, overwrite=False):
    with whole_folder(target, MARKER, overwrite) as part:
        (part / MARKER).write_text(text)


def test_a_folder_appears_when_everything_is_in_it(tmp_path):
    target = tmp_path / "new" / "out"
    with whole_folder(target, MARKER) as part:
        (part / MARKER).write_text("all")
        assert not target.exists()
    assert (target / MARKER).read_text() == "all"
    assert sorted(path.name for path in target.parent.iterdir()) == ["out"]
    # It is for whom any new folder would be for.
    (tmp_path / "plain").mkdir()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path, error):
    def fail(target):
        with whole_folder(target, MARKER, overwrite=True) as part:
            (part / "half").write_text("half")
            raise error

    write(tmp_path / "old", "old")
    for target in ("old", "new/deep/out"):
        with pytest.raises(error):
            fail(tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == [MARKER]


def test_the_systems_refusals_become_ours(tmp_path):
    with pytest.raises(OutputError, match="No space left"), whole_folder(tmp_path / "out", MARKER):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_only_its_own_kind_is_replaced_and_only_when_asked(tmp_path):
    target = tmp_path / "out"
    write(target, "first")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write(target, "second")
    write(target, "second", overwrite=True)
    assert (target / MARKER).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (target / MARKER).rename(target / "thesis.tex")
    with pytest.raises(OutputExistsError, match="left alone"):
        write(target, "third", overwrite=True)
    with pytest.raises(OutputExistsError, match="is a file"):
        check_free(target / "thesis.tex", MARKER, overwrite=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "fine")


KILLED = """
import os, sys
from numbaglm.data.storage.folders import whole_folder
with whole_folder(sys.argv[1], "fit.json") as part:
    (part / "half").write_text("half")
    os._exit(9)
"""


def test_what_a_killed_call_left_is_deleted_by_the_next_one_for_that_folder(tmp_path):
    for name in ("out", "out-2"):
        assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], check=False).returncode == 9
    (tmp_path / ".out-0123456789ab").mkdir()  # nobody knows whose
    with whole_folder(tmp_path / "out", MARKER) as part:
        (part / MARKER).write_text("first of two at once")
        write(tmp_path / "out", "second")
        assert part.exists()
        (tmp_path / "out" / MARKER).unlink()
    assert (tmp_path / "out" / MARKER).read_text() == "first of two at once"
    *left, out = sorted(path.name for path in tmp_path.iterdir())
    assert out == "out"
    assert left[0] == ".out-0123456789ab"
    assert [name.removeprefix(".out-2-").isalnum() for name in left[1:]] == [True]


def test_what_is_replaced_stays_until_it_is(tmp_path, monkeypatch):
    """Where the new folder can't take its place, the old one is back."""
    write(tmp_path / "out", "old")
    rename = Path.rename

    def refuse(path, target):
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "out", "new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / MARKER).read_text() == "old"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    write(tmp_path / "disk", "first")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write(tmp_path / "link", "second", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / MARKER).read_text() == "second"


def test_what_cant_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder to write to"):
        check_free(tmp_path / "file" / "out", MARKER)


def test_a_store_in_the_output_is_refused_before_the_work(tmp_path):
    for store in ("out", "out/run", "other/../out"):
        with pytest.raises(OutputExistsError, match=r"also where the store .* would be"):
            check_apart(tmp_path / "out", str(tmp_path / store))
    for store in ("run", "output", ".", None):
        check_apart(tmp_path / "out", store and str(tmp_path / store))
    check_apart(tmp_path / "out", "s3://bucket/run")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not a folder to write to"):
        check_free(tmp_path / "out", MARKER)
