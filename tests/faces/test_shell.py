from __future__ import annotations

import gc
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from numbaglm.errors import InputError, invalid, term, warn
from numbaglm.faces.commands import commands
from numbaglm.faces.shell import Terminal, as_typed, examples, habits, log


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_loaded_stays_only_where_the_process_is_the_commands_own(alone):
    def load():
        with Terminal(quiet=False, as_json=False, alone=alone).loading():
            assert gc.isenabled() != alone
            raise ImportError("no such module")

    before = gc.get_freeze_count()
    with pytest.raises(ImportError):
        load()
    assert gc.isenabled()
    assert (gc.get_freeze_count() > before) == alone
    gc.unfreeze()


@pytest.mark.filterwarnings("default")
def test_warnings_are_told_as_the_log_is():
    @click.command()
    @habits
    def command(terminal):
        warn("Columns depend on each other.")
        warnings.warn("a font lacks a glyph", UserWarning, stacklevel=1)
        terminal.outcome({}, "done")

    before = warnings.showwarning
    assert CliRunner().invoke(command).stderr == "Warning: Columns depend on each other.\n"
    assert CliRunner().invoke(command, ["--verbose"]).stderr.endswith("Debug: a font lacks a glyph\n")
    assert warnings.showwarning is before


def test_a_process_may_have_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not Terminal(quiet=False, as_json=False).progress


def test_messages_name_what_was_typed():
    command = commands.command_named("permute")
    assert isinstance(command, click.Command)
    flips = term("errors='ise'")
    error = InputError(f"Pass {term('mask=')}, or {term('overwrite=True')}, or {flips}, over ['contrast'], mask=1.")
    assert str(error) == "Pass mask=, or overwrite=True, or errors='ise', over ['contrast'], mask=1."
    expected = "Pass --mask, or --overwrite, or --errors ise, over ['contrast'], mask=1."
    assert as_typed(error, command) == expected
    leave = f"Leave {term('subjects=')} and {term('tfce=True')} out."
    error = InputError(invalid("n_perm", "errors=True", "a number", leave))
    expected = (
        "got 'errors=True'. Allowed: a number. Leave a table of maps (subject_label, effects_map_path) and --tfce"
    )
    assert as_typed(error, command) == f"Invalid value for '--n-perm': {expected} out."
    assert as_typed(InputError(invalid("maps", 1, "a list")), command) == (
        "Invalid value for MAPS: got 1. Allowed: a list."
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            InputError(invalid("seed", -1, "0 or above")),
            "Error: Invalid value for '--seed': got -1. Allowed: 0 or above.\n",
        ),
        (MemoryError(), "Error: There is not enough memory (MemoryError). Close other programs"),
        (OSError("no disk"), "Error: no disk.\n"),
        (ZeroDivisionError("by 0"), "(ZeroDivisionError: by 0), which is a fault of numbaglm"),
    ],
)
def test_a_failure_is_one_sentence_and_a_traceback_if_asked(error, told):
    @click.command()
    @click.option("--seed")
    @habits
    def command(terminal, seed):
        raise error

    run = CliRunner().invoke(command)
    assert run.exit_code == 1
    assert told in run.stderr
    assert run.stderr.count("\n") == 1
    assert "Traceback" in CliRunner().invoke(command, ["--verbose"]).stderr


def test_ctrl_c_tells_where_to_go_on():
    @click.command()
    @click.option("--store")
    @habits
    def command(terminal, store):
        raise KeyboardInterrupt

    run = CliRunner().invoke(command, ["--store", "here"])
    assert run.exit_code == 130
    assert "kept in here: the same command goes on" in run.stderr


def test_an_outcome_is_text_or_json_and_quiet_leaves_warnings():
    @click.command()
    @habits
    def command(terminal):
        log.info("on its way")
        log.warning("few maps")
        terminal.outcome({"a": 1}, "one")

    run = CliRunner().invoke(command)
    assert (run.stdout, run.stderr) == ("one\n", "on its way\nWarning: few maps\n")
    run = CliRunner().invoke(command, ["--json", "--quiet"])
    assert (run.stdout, run.stderr) == ('{\n  "a": 1\n}\n', "Warning: few maps\n")
    assert CliRunner().invoke(command, ["-q", "-v"]).exit_code == 2
    assert examples("a", "b") == "\b\nExamples:\n  a\n  b"


def test_messages_name_other_commands_and_their_options():
    command = commands.command_named("permute")
    error = InputError(f"Pass {term('resample=True')} to {term('Cohort.create')}. {term('Cohort.verify()')} tells.")
    assert as_typed(error, command) == "Pass --resample to numbaglm convert. numbaglm verify tells."


def test_a_warning_is_told_once():
    @click.command()
    @habits
    def command(terminal):
        for _ in range(3):
            log.warning("few maps")
            log.info("on")

    assert CliRunner().invoke(command).stderr == "Warning: few maps\non\non\non\n"
