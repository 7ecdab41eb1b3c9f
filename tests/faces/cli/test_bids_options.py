from __future__ import annotations

import click

from numbaglm.faces.cli.bids_options import ENTITY_OF, bids_inputs


def test_every_entity_has_an_option_that_can_be_repeated():
    @click.command()
    @bids_inputs("--contrast")
    def command(**options):
        pass

    typed = ["--bids-dir", "d", "--contrast", "a", "--first-level-contrast", "b", "--run", "1", "--entity", "desc=x"]
    options = command.make_context("command", typed).params
    assert set(ENTITY_OF) | {"bids_dir", "entities", "spm_dir", "con", "spm_folder", "leave_out"} == set(options)
    assert options["first_level_contrast"] == ("a", "b")
    assert (options["bids_dir"], options["run"], options["entities"], options["task"]) == ("d", ("1",), ("desc=x",), ())
