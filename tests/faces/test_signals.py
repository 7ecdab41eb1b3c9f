from __future__ import annotations

import signal
import subprocess
import sys
import time
import weakref

import click
import pytest
from click.testing import CliRunner

from numbaglm.faces.program import Later, Program
from numbaglm.faces.shell import habits, log
from numbaglm.faces.signals import Signals


class Thing:
    """Something that goes."""


def meets_a_callback(number):
    """Receive a signal where Python drops every exception."""
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert watched() is None


@pytest.fixture
def heeded():
    """A handler as it is in a program that stands in the foreground."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_what_a_callback_drops_comes_again(heeded, number, error, capsys):
    def wait():
        with Signals() as signals:
            meets_a_callback(number)
            assert signals.received == number
            time.sleep(20)

    with pytest.raises(error):
        wait()
    assert capsys.readouterr().err == ""


def test_other_errors_that_go_no_further_are_told_as_ever(heeded, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with Signals():
        thing = Thing()
        watched = weakref.ref(thing, lambda _: 1 / 0)
        del thing
        assert watched() is None
    assert told == [ZeroDivisionError]
    assert sys.unraisablehook not in (None, sys.__unraisablehook__)


def test_who_ignores_interrupts_goes_on_to(heeded):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
    assert signals.received is None
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def received(body):
    """What a command whose body is this one ends with, and says."""

    @click.command()
    @habits
    def command(terminal):
        body()

    with Signals() as signals:
        run = CliRunner().invoke(command, obj=signals)
    return run.exit_code, run.stderr


def test_an_interrupt_that_became_another_error_is_one(heeded):
    def load():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    assert received(load) == (130, "\nInterrupted.\n")


@pytest.mark.parametrize("said", ["", "Interrupted: the result is that of 100 shufflings."])
def test_an_interrupt_that_changed_nothing_is_told_of(heeded, said):
    def save():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            log.warning(said) if said else None

    told = f"Warning: {said}\n" if said else "The interrupt came too late: all is done.\n"
    assert received(save) == (0, told)


def test_a_command_is_interrupted_as_it_is_loaded(heeded):
    def load():
        raise KeyboardInterrupt

    run = CliRunner().invoke(Program("program", commands=[Later("far", "Goes far.", load)]), ["far"])
    assert (run.exit_code, run.stderr) == (130, "\nInterrupted.\n")


PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from numbaglm.faces import commands, signals
import click
@click.command("wait")
def wait():
    os.kill(os.getpid(), signal.SIGINT)
    import time
    time.sleep(20)
commands.commands.add_command(wait)
sys.argv = ["numbaglm", "wait"]
commands.main()
"""


def test_the_program_heeds_them():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (130, "\nInterrupted.\n")
