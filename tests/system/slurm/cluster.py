"""A real Slurm of one node on this machine: controller, node and authentication, started for the tests and ended after them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from tests.system import packages

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
CONF = """
ClusterName=course
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket}
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
ReturnToService=2
KillWait=3
SchedulerParameters=batch_sched_delay=1,sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def install():
    """Whether Slurm is here; as root it is installed from Debian's packages where it is not."""
    def here():
        return all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in PROGRAMS)

    if not here():
        packages.install("slurmctld", "slurmd", "slurm-client", "munge")
    return here() and os.geteuid() == 0


@contextlib.contextmanager
def running(folder, cpus=2):
    """A cluster whose files are in ``folder``; gives the path of its slurm.conf."""
    host, started = socket.gethostname().split(".")[0], []
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    short = tempfile.mkdtemp(prefix="munge-", dir="/tmp")  # the name of a socket has at most 107 characters
    munge = f"{short}/socket"
    conf.write_text(CONF.format(host=host, folder=folder, socket=munge, ports=_free_ports(2), cpus=cpus))
    (folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null\n")   # a GPU that Slurm believes in
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"

    def start(*words):
        with open(folder / f"{words[0]}.out", "w") as out:
            environment = os.environ | {"PATH": path, "SLURM_CONF": str(conf)}
            started.append(subprocess.Popen(words, stdout=out, stderr=out, env=environment))

    try:
        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed")
        _until(lambda: os.path.exists(munge), folder)
        start("slurmctld", "-D", "-c", "-f", str(conf))
        start("slurmd", "-D", "-c", "-f", str(conf), "-N", host)

        def idle():
            asked = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True,
                                   env=os.environ | {"SLURM_CONF": str(conf)})
            return asked.stdout.strip() == "idle"

        _until(idle, folder)
        yield conf
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(short)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _until(condition, folder, seconds=30):
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(folder.glob("*.out")))
            raise TimeoutError(f"Slurm did not start in {seconds} s\n{logs}")
        time.sleep(0.2)
