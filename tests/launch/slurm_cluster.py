"""A Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd, from the distribution's packages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIG = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait={kill_wait_s}
JobRequeue=1
MessageTimeout=60
SlurmdTimeout=300
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=2 RealMemory=100000
NodeName=node2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=2 RealMemory=100000
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """Two nodes of two cores each; no systemd, no cgroups, everything in one directory and on three free ports."""

    def __init__(self, directory: Path, kill_wait_s: int = 120) -> None:
        self.directory = directory
        self.kill_wait_s = kill_wait_s
        self.environment = os.environ | {"SLURM_CONF": str(directory / "slurm.conf"), "PATH": _path()}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        munge = self.directory / "munge"
        munge.mkdir(mode=0o700)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o600)
        (self.directory / "state").mkdir()
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        config = CONFIG.format(
            directory=self.directory, ports=_free_ports(3), host=socket.gethostname(), kill_wait_s=self.kill_wait_s
        )
        # The nodes say more memory than the machine has, so that a recipe's default fits; nothing enforces it.
        (self.directory / "slurm.conf").write_text(f"{config}SlurmdParameters=config_overrides\n")
        _until((munge / "socket").exists, 30)
        self._daemon("slurmctld", "-D", "-c")
        for node in ("node1", "node2"):
            self._daemon("slurmd", "-D", "-N", node)
        _until(lambda: self.call("sinfo", "--noheader", "--format=%t %D").stdout.split() == ["idle", "2"], 120)

    def _daemon(self, *command: str) -> None:
        with (self.directory / f"{command[0]}.out").open("ab") as log:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def stop(self) -> None:
        """Cancels every job and ends the daemons."""
        # Steps first, by those who know their processes; a killed batch step would leave them behind.
        for options in (["--signal=KILL"], ["--batch", "--signal=KILL"], []):
            self.call("scancel", "--user=root", *options)
            time.sleep(3)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        return self.fact(job, "JobState")

    def fact(self, job: str, name: str) -> str:
        """A value of `scontrol show job`, '' while Slurm does not answer."""
        words = self.call("scontrol", "show", "job", job).stdout.split()
        return next((word.partition("=")[2] for word in words if word.startswith(f"{name}=")), "")

    def wait(self, job: str, *states: str, timeout_s: float) -> str:
        """The state, one of `states`; AssertionError with the job's facts when the time is up."""
        _until(lambda: self.state(job) in states, timeout_s, lambda: self.call("scontrol", "show", "job", job).stdout)
        return self.state(job)


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]


def _path() -> str:
    """Where the daemons are too, whoever's PATH it is."""
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    with closing(socket.socket()) as probe:
        others = [socket.socket() for _ in range(count - 1)]
        for one in (probe, *others):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (probe, *others)]
        for one in others:
            one.close()
    return ports


def _until(condition, timeout_s: float, describe=lambda: "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s\n{describe()}"
        time.sleep(0.5)
