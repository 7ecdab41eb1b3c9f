"""The command line: commands of all faces in one program. No face knows another; here they are put together."""

from __future__ import annotations

import io
import signal
import sys

from numbaglm.faces.afni.command import mvm, ttest
from numbaglm.faces.cli.main import commands
from numbaglm.faces.fsl.command import randomise
from numbaglm.faces.glmfit.command import glmfit, glmfit_sim
from numbaglm.faces.palm.command import palm
from numbaglm.faces.spm.command import spm

for one in (mvm, ttest, randomise, glmfit, glmfit_sim, palm, spm):
    commands.add_command(one)


def main() -> None:
    """Run the command line."""
    # As Ctrl-C: what is half-done is cleared away, and the exit code is what a shell expects. nohup's choice stays.
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal has not is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        commands(prog_name="numbaglm", obj=True)  # see Terminal.alone
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: threads that end would only show a traceback
