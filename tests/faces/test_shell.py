from __future__ import annotations

import gc
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from numbaglm.errors import InputError, invalid, term, warn
from numbaglm.faces.commands import commands
from numbaglm.faces.shell import Terminal, as_typed, habits


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
    command = commands.commands["permute"]
    assert isinstance(command, click.Command)
    error = InputError("Invalid value for 'n_perm': got -1. Pass mask=, or overwrite=True, over ['contrast'].")
    expected = "Invalid value for '--n-perm': got -1. Pass --mask , or --overwrite, over ['contrast']."
    assert as_typed(error, command) == expected
    error = InputError(invalid("n_perm", "errors=True", "a number", f"Leave {term('subjects=')} and tfce=True out."))
    expected = (
        "got 'errors=True'. Allowed: a number. Leave a table of maps (subject_label, effects_map_path) and --tfce"
    )
    assert as_typed(error, command) == f"Invalid value for '--n-perm': {expected} out."
    assert as_typed(InputError(invalid("maps", 1, "a list")), command) == (
        "Invalid value for MAPS: got 1. Allowed: a list."
    )
