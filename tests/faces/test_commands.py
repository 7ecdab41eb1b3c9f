from __future__ import annotations

import signal

import pytest

from numbaglm.faces import commands as program


@pytest.fixture
def handlers():
    """Put signals back as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_commands_of_all_faces_are_in_one_program():
    assert {"convert", "permute", "fit", "report", "quality", "randomise", "spm"} <= set(program.commands.commands)


def test_a_terminated_process_says_by_what(handlers, monkeypatch):
    def run(**options):
        assert options == {"prog_name": "numbaglm", "obj": True}
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(program, "commands", run)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, "nohup's choice stays"
