"""A Slurm of one's own for tests: munge, slurmctld and four nodes, all on this machine.

``python -m tests.slurm_cluster COMMAND...`` runs a command that finds it, and within that
``python -m tests.slurm_cluster --kill-node`` kills a node that has workers and no coordinator.

Its folder has its configuration, its key and its sockets; no port and no daemon is shared with a
Slurm that the machine may have. It needs root, as slurmd does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.processes import die_with_us, eventually

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
NODES = ("n1", "n2", "n3", "n4")
CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={control_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
ReturnToService=2
SlurmdTimeout=5
KillWait=30
JobRequeue=1
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=debug Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    if os.geteuid() != 0:
        return "slurmd needs root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    packages = "apt-get install slurmctld slurmd slurm-client munge"
    return f"there is no {absent[0]}: {packages}" if absent else ""


class SlurmCluster:
    """Use it in a ``with`` statement. ``variables``: of the environment of Slurm's commands."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="microgpt-slurm-"))
        self.variables = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SlurmCluster:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self) -> None:
        for name in ("state", *NODES):
            (self.folder / name).mkdir()
        self._configure()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"socket": "socket", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        flags = [f"--{flag}={self.folder}/munge.{end}" for flag, end in files.items()]
        # Forced: the folder above ours may be written to by all.
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *flags)
        eventually((self.folder / "munge.socket").exists, "munge listens")
        self._start("slurmctld", "-D")
        for node in NODES:
            self.boot(node)
        eventually(self._all_idle, "all nodes are idle")

    def _configure(self) -> None:
        ports = free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
            "CPUs=2 RealMemory=1000"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        text = CONF.format(folder=self.folder, control_port=ports[0], nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(text)

    def _start(self, program: str, *flags: str, name: str = "") -> None:
        with open(self.folder / f"{name or program}.out", "ab") as out:
            self._daemons[name or program] = subprocess.Popen(
                [program, *flags],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_us,
            )

    def boot(self, node: str) -> None:
        """Start the daemon of a node, at first or again."""
        self._start("slurmd", "-D", "-N", node, name=node)

    def crash(self, node: str) -> None:
        """As if its power had failed: its daemon and all that runs on it are killed."""
        self._daemons.pop(node).kill()
        kill(running_on(node, self.variables["SLURM_CONF"]))

    def run(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.variables}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def _all_idle(self) -> bool:
        return self.run("sinfo", "--noheader", "--format=%T").split() == ["idle"]

    def state(self, job: str) -> str:
        """Such as RUNNING."""
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def field(self, job: str, name: str) -> str:
        """One of those that ``scontrol show job`` has."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def close(self) -> None:
        """End the daemons, and whatever runs under them."""
        for node in NODES:
            kill(running_on(node, self.variables["SLURM_CONF"]))
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def environments() -> list[tuple[int, list[str]]]:
    """The variables of each process that we may look into."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                text = (entry / "environ").read_bytes().decode(errors="replace")
                found.append((int(entry.name), text.split("\0")))
    return found


def step_daemon_of(pid: int) -> list[int]:
    """The slurmstepd that has started a process, if one has."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if Path(f"/proc/{fields[1]}/comm").read_text().strip() == "slurmstepd":
            return [int(fields[1])]
    return []


def running_on(node: str, conf: str) -> list[int]:
    """The processes of steps on a node of the cluster with this ``slurm.conf``, and those that
    look after them.
    """
    wanted = {f"SLURM_CONF={conf}", f"SLURMD_NODENAME={node}"}
    tasks = [pid for pid, variables in environments() if wanted.issubset(variables)]
    return [daemon for pid in tasks for daemon in step_daemon_of(pid)] + tasks


def kill(pids: list[int]) -> None:
    """End them, if they have not ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_a_node(conf: str) -> int:
    """See the module; prints when, in seconds since 1970. Returns an exit code."""
    command = ["squeue", "--noheader", "--steps", "--format=%j %N"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    steps = [line.split() for line in text.splitlines()]
    first = {node for name, node in steps if name == "batch"}
    others = sorted({node for name, node in steps} - first)
    if not others:
        print("error: no node has workers and no coordinator", file=sys.stderr)
        return 1
    node = others[0]
    daemon = [pid for pid, variables in environments() if is_daemon(pid, node, conf, variables)]
    victims = daemon + running_on(node, conf)
    print(time.time())
    kill(victims)
    return 0


def is_daemon(pid: int, node: str, conf: str, variables: list[str]) -> bool:
    """Whether a process is the slurmd of a node."""
    if f"SLURM_CONF={conf}" not in variables:
        return False
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[0].rpartition("/")[2] == "slurmd" and node in words


def main(command: list[str]) -> int:
    """Run the command beside a cluster; its exit code."""
    if command == ["--kill-node"]:
        return kill_a_node(os.environ["SLURM_CONF"])
    if why := missing():
        print(f"error: {why}", file=sys.stderr)
        return 1
    with SlurmCluster() as cluster:
        return subprocess.run(
            command, env={**os.environ, **cluster.variables}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
