"""SLURM on this machine, in a folder: one controller and one node, which says that it is larger than it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")

_CONF = """\
ClusterName=numbaglm
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=1
MailProg=/bin/true
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=250000
PartitionName=normal Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def is_here() -> bool:
    """Whether SLURM is installed, and this user may start it."""
    return all(map(shutil.which, NEEDED)) and os.geteuid() == 0


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run it, on loopback; gives the environment that its commands need."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    names = {"folder": folder, "controller": ports[0], "node": ports[1], "user": "root", "host": socket.gethostname()}
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(**names))
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    files |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    try:
        for command in (
            ["munged", "--force", *(f"--{name}={file}" for name, file in files.items())],
            ["slurmctld", "-f", str(conf)],
            ["slurmd", "-f", str(conf), "-N", "localhost"],
        ):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, timeout=60, env=environment, **quiet)
        end = time.monotonic() + 60
        while "idle" not in _said(["sinfo", "-h", "-o", "%T"], environment):
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield {"SLURM_CONF": str(conf)}
    finally:
        _said(["scancel", "--user=root"], environment)
        end = time.monotonic() + 30
        while _said(["squeue", "-h"], environment).strip() and time.monotonic() < end:
            time.sleep(0.2)
        for name in ("slurmd", "slurmctld", "munged"):
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    ).stdout
