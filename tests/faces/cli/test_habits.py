"""What all commands share: help, JSON, quiet and verbose, where things are printed, how they fail."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import click
import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from numbaglm.faces.commands import commands
from reference import spm_mat
from reference.maps import volumes, write_maps

COMMANDS = sorted(commands.commands)

GOOD = {
    "3dMVM": ["-prefix", "out", "-dataTable", "@table.txt"],
    "3dttest++": ["-setA", "maps/sub-0?_con.nii.gz", "-prefix", "out"],
    "append": ["grows.zarr", "new.nii.gz"],
    "beyond": ["result", "--tdp", "0.7"],
    "completion": ["bash"],
    "convert": ["maps/sub-01_con.nii.gz", "maps/sub-02_con.nii.gz", "-o", "new"],
    "demo": ["-o", "new"],
    "fit": ["c.zarr", "-o", "new"],
    "glmfit": ["--y", "4d.nii.gz", "--osgm", "--glmdir", "new"],
    "glmfit-sim": ["--glmdir", "glm", "--perm", "9", "1.3", "abs"],
    "info": ["c.zarr"],
    "palm": ["-i", "4d.nii.gz", "-d", "ones.csv", "-t", "one.csv", "-ise", "-n", "10", "-o", "new"],
    "permute": ["c.zarr", "-o", "new", "--n-perm", "3"],  # too few for a critical value, which JSON has no number for
    "power": ["result", "c.zarr", "-n", "9", "--n-cohorts", "10", "--n-perm", "99"],
    "quality": ["c.zarr"],
    "randomise": ["-i", "4d", "-1", "-x", "-n", "10", "-o", "new"],
    "report": ["result", "-o", "new.html"],
    "spm": ["SPM.mat", "-o", "new", "--n-perm", "10"],
    "verify": ["c.zarr"],
}
# What can't be done (1), and what is typed wrong (2).
BAD = {
    "3dMVM": ["-prefix", "out", "-dataTable", "@nothing"],
    "3dttest++": ["-setA", "nothing", "-prefix", "out"],
    "append": ["nothing", "new.nii.gz"],
    "beyond": ["nothing", "--tdp", "0.7"],
    "completion": [],
    "convert": ["nothing.nii", "none.nii", "-o", "new"],
    "demo": ["-o", "taken"],
    "fit": ["nothing", "-o", "new"],
    "glmfit": ["--y", "nothing.nii", "--osgm", "--glmdir", "new"],
    "glmfit-sim": ["--glmdir", "nothing", "--perm", "9", "1.3", "abs"],
    "info": ["nothing"],
    "palm": ["-i", "nothing.nii", "-d", "ones.csv", "-t", "one.csv", "-o", "new"],
    "permute": ["nothing", "-o", "new"],
    "power": ["nothing", "c.zarr", "-n", "9"],
    "quality": ["nothing"],
    "randomise": ["-i", "nothing", "-1", "-x", "-o", "new"],
    "report": ["nothing"],
    "spm": ["nothing"],
    "verify": ["nothing"],
}
WRONG = {name: ["--no-such-option"] for name in COMMANDS} | {"completion": ["tcsh"], "info": [], "fit": ["c.zarr"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with maps, their cohort and a result."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        maps = write_maps(folder / "maps", volumes(6))
        nib.save(nib.concat_images([str(path) for path in maps]), "4d.nii.gz")
        shutil.copy(maps[0], "new.nii.gz")
        mean = spm_mat.design(H=(np.ones((6, 1)), ["mean"]))
        spm_mat.save(folder / "SPM.mat", maps, mean, con=[("mean", "T", [1])])
        (folder / "ones.csv").write_text("1\n" * 6)
        (folder / "one.csv").write_text("1\n")
        (folder / "taken").write_text("a thesis")
        assert call("convert", *map(str, maps), "-o", "c.zarr").exit_code == 0
        assert call("permute", "c.zarr", "--n-perm", "20", "-o", "result").exit_code == 0
        assert call("glmfit", *GOOD["glmfit"][:-1], "glm").exit_code == 0
        rows = [f"s{k} {path}" for k, path in enumerate(maps)]
        (folder / "table.txt").write_text("\n".join(["Subj InputFile", *rows]))
    return folder


@pytest.fixture
def place(made, monkeypatch):
    monkeypatch.chdir(made)
    before = {path.name for path in made.iterdir()}
    shutil.copytree("c.zarr", "grows.zarr")
    yield made
    for path in made.iterdir():  # what a test has written
        if path.name not in before:
            path.unlink() if path.is_file() else shutil.rmtree(path)


def call(*arguments):
    return CliRunner().invoke(commands, list(arguments))


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_the_program_tells_about_itself(arguments):
    outcome = call(*arguments)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    if "--version" not in arguments:
        assert all(name in outcome.stdout for name in COMMANDS)
        assert "Exit codes: 0 for done, 1" in outcome.stdout
        assert "numbaglm completion --help" in outcome.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name):
    for flag in ("--help", "-h"):
        outcome = call(name, flag)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert f"numbaglm {name}" in outcome.stdout.split("Examples:")[1]
    command = commands.command_named(name)
    options = {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
    assert {"--json", "--quiet", "--verbose"} <= options
    # Nothing is there without a word on it, unless it is there to be refused.
    for one in command.params:
        assert not isinstance(one, click.Option) or one.help or one.hidden, one


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_all_that_stdout_holds(name, place, monkeypatch):
    if name == "demo":
        made = SimpleNamespace(summary={"output": "new"}, text="done", page=None)
        monkeypatch.setattr("numbaglm.faces.cli.demo.run_demo", lambda *_, **__: made)
    outcome = call(name, *GOOD[name], "--json", "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    summary = json.loads(outcome.stdout, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert isinstance(summary, dict)


@pytest.mark.parametrize("name", [name for name in COMMANDS if BAD[name]])
def test_what_can_not_be_done_is_1_and_one_line(name, place):
    for how in ([], ["--json"], ["--quiet"]):
        outcome = call(name, *BAD[name], *how)
        assert outcome.exit_code == 1
        assert outcome.stdout == ""
        assert outcome.stderr.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in outcome.stderr
        if "--quiet" in how:
            assert outcome.stderr.count("\n") == 1
    assert not (place / "new").exists()
    assert (place / "taken").read_text() == "a thesis"
    assert "Traceback" in call(name, *BAD[name], "--verbose").stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_typed_wrong_is_2(name, place):
    outcome = call(name, *WRONG[name])
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "Error: " in outcome.stderr
    assert f"Usage: {commands.name} {name}" in outcome.stderr
    outcome = call(name, *GOOD[name], "--quiet", "--verbose")
    assert outcome.exit_code == 2
    assert "exclude each other" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "Interrupted."),
        (OSError(28, "No space left on device", "x.nii.gz"), "Error: [Errno 28] No space left on device: 'x.nii.gz'."),
        (MemoryError("2 TB"), "Error: There is not enough memory (2 TB)."),
        (ZeroDivisionError("by 0"), "Error: Something unforeseen went wrong (ZeroDivisionError: by 0)"),
    ],
)
def test_nobody_sees_a_traceback_who_has_not_asked(error, message, place, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("numbaglm.cohort.Cohort.open", fail)
    stopped = isinstance(error, KeyboardInterrupt)
    outcome = call("info", "c.zarr")
    assert outcome.exit_code == (130 if stopped else 1)
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert stopped or "Traceback" in call("info", "c.zarr", "--verbose").stderr


def test_a_terminal_may_lack_letters(place):
    (place / "\u03b2").mkdir()
    shutil.copytree(place / "c.zarr", place / "\u03b2" / "c.zarr")
    command = [sys.executable, "-c", "from numbaglm.faces.commands import main; main()", "info", "\u03b2/c.zarr"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "\\u03b2" in outcome.stdout
    assert outcome.stderr == ""
