from click.testing import CliRunner

from numbaglm.faces.commands import commands


def run(*arguments, code=0):
    """Run a command in this process, and return what it printed on stdout and on stderr."""
    outcome = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stdout, outcome.stderr
