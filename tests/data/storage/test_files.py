import pytest

from numbaglm.data.storage.files import parse_json, require_own, sweep, write_file
from numbaglm.errors import OutputError


def test_a_file_takes_the_place_of_another_whole(tmp_path):
    target = tmp_path / "new" / "page.html"
    for text in (b"first", b"second"):
        assert write_file(target, text, "page").read_bytes() == text
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"Can't write the page .*folder: "):
        write_file(tmp_path / "folder", b"third", "page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]


def test_what_is_nested_too_deeply_is_no_json():
    assert parse_json(b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 10**6)


def test_links_are_found_wherever_they_are(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    require_own(tmp_path)
    (tmp_path / "a" / "b" / "away").symlink_to(tmp_path / "a" / "file")
    with pytest.raises(OSError, match="it is a link"):
        require_own(tmp_path)


def test_what_is_half_written_is_swept_and_nothing_else(tmp_path):
    half = tmp_path / "records" / f".0.npz.{32 * 'a'}.partial"
    half.parent.mkdir()
    for file in (half, half.with_name("0.npz"), half.with_name("notes.partial")):
        file.touch()
    sweep(tmp_path)
    assert sorted(path.name for path in half.parent.iterdir()) == ["0.npz", "notes.partial"]
