import click
import pytest
from click.testing import CliRunner

from numbaglm.faces.flags import Flag, FlagCommand, Given, number_of
from numbaglm.faces.shell import habits

FLAGS = (
    Flag("--set", "set", "Some words.", 1, float("inf"), "WORD ..."),
    Flag("--two", "two", "One or two.", 1, 2, "A [B]", ("--double",)),
    Flag("-on", "on", "A switch."),
    Flag("--rest", "rest", "All that follows.", 1, takes_rest=True),
    Flag.refused("--never", "do it otherwise"),
)


@click.command(cls=FlagCommand, flags=FLAGS, peer="other")
@habits
def command(terminal, given: Given):
    """Do something."""
    terminal.outcome({"typed": given.typed, "line": given.line}, str(given.typed))


def run(*words):
    return CliRunner().invoke(command, list(words))


def test_flags_take_the_words_before_the_next():
    words = ("--set", "a", "-1", "-.5", "c", "-ON", "--double", "x", "--two", "y", "z", "--rest", "-on", "b", "-q")
    outcome = run(*words)
    expected = (("set", ("a", "-1", "-.5", "c")), ("on", ()), ("two", ("x",)), ("two", ("y", "z")))
    assert outcome.stdout.strip() == str((*expected, ("rest", ("-on", "b"))))
    given = Given(expected)
    assert (given.word("two"), given.words("two"), given.all("two")) == ("y", ("y", "z"), [("x",), ("y", "z")])
    assert (given.word("none", 3), given.last_of("set", "on"), "on" in given, "off" in given) == (3, "on", True, False)
    assert '"line"' in run("-on", "--json").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--never",), "other's --never is not supported: do it otherwise."),
        (("--sett", "a"), "No such option: --sett Did you mean --set?"),
        (("stray",), "unexpected extra argument (stray)"),
        (("--set", "-on"), "--set needs WORD ..."),
    ],
)
def test_what_is_not_known_or_not_supported_is_told(words, message):
    outcome = run(*words)
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_help_shows_what_is_supported():
    text = run("--set", "a", "--help").stdout
    assert "--two, --double A [B]" in text
    assert "--never" not in text
    with pytest.raises(click.UsageError, match="'x' is not a number"):
        number_of("x", "--n")
