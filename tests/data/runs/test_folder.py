from __future__ import annotations

import json
import os

import pytest

from numbaglm.data.runs.folder import differences, open_run
from numbaglm.data.storage.places import Place
from numbaglm.errors import OutputError, OutputExistsError


def test_a_run_goes_on_for_the_same_question_alone(tmp_path):
    place, asked = Place.parse(tmp_path / "run"), {"n_perm": 10, "rows": [1, 2]}
    with open_run(place, asked):
        assert place.exists("run.json")
    with open_run(place, {**asked}):
        pass
    with pytest.raises(OutputExistsError, match=r"n_perm: 10 there, 20 here"), open_run(place, {**asked, "n_perm": 20}):
        pass


def test_a_run_that_another_call_begins_just_now_is_a_run(tmp_path, monkeypatch):
    place, exists = Place.parse(tmp_path / "run"), Place.exists

    def late(self, name=""):
        found = exists(self, name)
        if name == "run.json":
            monkeypatch.undo()
            with open_run(place, {}):
                (tmp_path / "run" / "records").mkdir()
                (tmp_path / "run" / "records" / "00000.npz").write_text("")
        return found

    monkeypatch.setattr(Place, "exists", late)
    with open_run(place, {}):
        pass


@pytest.mark.parametrize("version", [1, 99])
def test_a_run_that_another_version_began_is_refused_with_what_to_do(tmp_path, version):
    header = {"schema": "numbaglm.run", "schema_version": version, "identity": {}}
    (tmp_path / "run.json").write_text(json.dumps(header))
    words = rf"another version of numbaglm \(schema {version}, here 2\).*choose another store"
    with pytest.raises(OutputExistsError, match=words), open_run(Place.parse(tmp_path), {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", ["log.txt", "records", "plans/contrast-000.json", "run.json"])
def test_links_in_a_run_are_not_followed(tmp_path, name):
    place, outside = Place.parse(tmp_path / "run"), tmp_path / "outside"
    with open_run(place, {}):
        pass
    link = tmp_path / "run" / name
    outside.mkdir()
    (outside / "it").write_text("kept")
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside if name == "records" else outside / "it")
    with (
        pytest.raises(
            (OutputError, OutputExistsError), match=r"a link, and not a file of numbaglm: delete it|is damaged"
        ),
        open_run(place, {}),
    ):
        pass
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("it", "kept")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of POSIX")
def test_a_pipe_in_a_run_is_not_waited_for(tmp_path):
    place = Place.parse(tmp_path / "run")
    with open_run(place, {}):
        pass
    (tmp_path / "run" / "log.txt").unlink()
    os.mkfifo(tmp_path / "run" / "log.txt")
    words = "a pipe or a device, and not a file of numbaglm: delete it"
    with pytest.raises(OutputError, match=words), open_run(place, {}):
        pass


def test_differences_are_named_where_they_are():
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a, b: 1 there, 2 here"]
    assert differences({"rows": list(range(9))}, {"rows": [*range(8), 0]}) == [
        "rows: 1 of 9 entries (the first at 8, counted from 0)"
    ]
