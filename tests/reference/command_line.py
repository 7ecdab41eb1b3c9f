from click.testing import CliRunner

from numbaglm.faces.commands import commands


def run(*arguments, code=0):
    """Run a command in this process, and return what it printed on stdout and on stderr.

    A test by shuffling ends with no report, which takes longer than it does, but where --report is said.
    """
    given = [str(argument) for argument in arguments]
    if given[0] == "permute" and "--report" not in given:
        given.insert(1, "--no-report")
    outcome = CliRunner().invoke(commands, given)
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stdout, outcome.stderr
