import click
import pytest
from click.testing import CliRunner

from numbaglm.faces.program import Later, Program


@pytest.fixture
def program():
    """A program of one command that stands there and one that is loaded, and what was loaded."""
    loaded = []

    @click.command("far", help="Goes far. And back.")
    @click.option("--fast", is_flag=True)
    def far(fast):
        click.echo(f"far{' and fast' * fast}")

    def load():
        loaded.append("far")
        return far

    made = Program("program", commands=[click.Command("near", callback=lambda: click.echo("near"))])
    made.add_command(Later("far", "Goes far. And back.", load))
    return made, loaded


@pytest.mark.parametrize("words", [["--help"], ["near"], ["nowhere"]])
def test_what_is_not_called_is_not_loaded(program, words):
    group, loaded = program
    text = CliRunner().invoke(group, words).output
    assert loaded == []
    assert ("Goes far." in text) == (words == ["--help"])


def test_a_command_is_loaded_when_it_is_called(program):
    group, loaded = program
    assert CliRunner().invoke(group, ["far", "--fast"]).output == "far and fast\n"
    assert loaded == ["far"]
    assert "--fast" in CliRunner().invoke(group, ["far", "--help"]).output
    assert group.command_named("far").params[0].name == "fast"
    assert group.command_named("near") is group.commands["near"]
