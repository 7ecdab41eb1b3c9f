from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from numbaglm.faces import commands as program
from numbaglm.faces.cli.main import commands as plain


@pytest.fixture
def handlers():
    """Put signals back as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_commands_of_all_faces_are_in_one_program():
    assert {"convert", "permute", "fit", "report", "quality", "randomise", "spm"} <= set(program.commands.commands)


@pytest.mark.parametrize("name", program.COMMANDS)
def test_the_program_says_of_a_command_what_the_command_says(name):
    itself = program.commands.command_named(name)
    assert itself.name == name
    for width in (30, 60, 200):
        assert program.commands.commands[name].get_short_help_str(width) == itself.get_short_help_str(width)


def test_every_command_of_the_plain_face_is_in_the_program():
    assert set(plain.commands) <= set(program.COMMANDS)


def test_help_loads_no_face():
    code = "import sys; from numbaglm.faces.commands import commands; commands(['--help'], standalone_mode=False); "
    code += "print(*(one for one in sys.modules if one.startswith('numbaglm.faces.')), file=sys.stderr)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    faces = {name.split(".")[2] for name in told.stderr.split()}
    assert faces == {"commands", "program", "signals"}
    assert all(name in told.stdout for name in program.COMMANDS)


def test_a_terminated_process_says_by_what(handlers, monkeypatch):
    def run(**options):
        assert options["prog_name"] == "numbaglm"
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(program, "commands", run)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, "nohup's choice stays"
