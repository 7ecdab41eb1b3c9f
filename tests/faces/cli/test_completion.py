import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from numbaglm.faces.commands import commands

PROGRAM = [sys.executable, "-c", "from numbaglm.faces.commands import main; main()"]


def completed(*words):
    """What the program answers a shell that asks how the last word may go on: kind and value of each."""
    asked = {"_NUMBAGLM_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    outcome = subprocess.run(PROGRAM, env=os.environ | asked, capture_output=True, text=True, check=True)
    assert outcome.stderr == ""
    return {tuple(line.split(",", 1)) for line in outcome.stdout.splitlines()}


def test_commands_options_and_choices_are_completed():
    assert completed("numbaglm", "per") == {("plain", "permute")}
    assert {value for _, value in completed("numbaglm", "")} == set(commands.commands)
    assert ("plain", "--first-level-contrast") in completed("numbaglm", "convert", "--f")
    assert {value for _, value in completed("numbaglm", "permute", "--tail", "")} == {"counts", "pareto", "gamma"}


@pytest.mark.parametrize(
    "words", ["permute", "permute --mask", "permute c.zarr -o", "info", "convert --bids-dir", "randomise -d", "report"]
)
def test_paths_are_left_to_the_shell(words):
    assert completed("numbaglm", *words.split(), "x") == {("file", "x")}


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
def test_bash_takes_the_script(tmp_path):
    program = tmp_path / "numbaglm"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{PROGRAM[-1]}' \"$@\"\n")
    program.chmod(0o755)
    script = """
        source <(numbaglm completion bash)
        complete -p numbaglm
        COMP_WORDS=(numbaglm conv) COMP_CWORD=1
        _numbaglm_completion numbaglm
        echo "${COMPREPLY[@]}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    outcome = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines() == ["complete -o nosort -F _numbaglm_completion numbaglm", "convert"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell):
    script = CliRunner().invoke(commands, ["completion", shell], prog_name="numbaglm").stdout
    assert f"_NUMBAGLM_COMPLETE={shell}_complete" in script
