"""Where jobs run: processes on this machine, or a Slurm cluster. An engine starts jobs, tells which still live, and ends them.

Both tell of a job: "alive", "ended" (well or not: the job's own ``state.json`` knows), or "cancelled" by somebody else.
"""

import contextlib
import getpass
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import torch

from trc_lib import validation


class Local:
    """Processes on this machine, ``workers`` at a time."""

    pause, settle = 0.2, 0.0  # seconds between two looks; and from the end of a job until its files are seen here

    def __init__(self, workers=1):
        self.workers = validation.whole("workers", workers)
        self.started = []  # (process, its GPU), where jobs share several

    def room(self, running):
        """How many jobs more can be started beside ``running``."""
        return self.workers - running

    def start(self, jobs):
        """Start jobs; returns a handle for each."""
        return [self._start(job) for job in jobs]

    def _start(self, job):
        library = str(pathlib.Path(validation.__file__).parents[1])  # the job and its kernels shall use the library that we do
        paths = [library, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment, said = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, None
        if self.workers > 1:  # they would talk across each other, and take each other's cores
            said = subprocess.DEVNULL
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.workers)))
        gpu, gpus = None, _gpus() if self.workers > 1 else []
        if gpus:
            taken = [its for process, its in self.started if process.poll() is None]
            gpu = environment["CUDA_VISIBLE_DEVICES"] = min(gpus, key=taken.count)
        # A session of its own: Ctrl-C reaches us alone, and we end it. Its standard input closes when we are gone.
        process = subprocess.Popen([sys.executable, "-m", "trc_lib.course.batch.job", str(job.folder)], stdin=subprocess.PIPE,
                                   stdout=said, stderr=said, env=environment, start_new_session=True)
        self.started.append((process, gpu))
        return process

    def look(self, handles):
        """How each of the handles is."""
        return ["alive" if process.poll() is None else "ended" for process in handles]

    def cancel(self, handles):
        """End what still runs: first kindly, after a while by force."""
        for process in handles:
            process.terminate()
        for process in handles:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _gpus():
    """The GPUs that we may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(gpu) for gpu in range(count)]


class Slurm:
    """A Slurm cluster, through submitit: the jobs go as one array, and are followed by ``squeue``, which every cluster has.

    Args:
        folder: for what submitit and Slurm leave (scripts, pickles, output); on a file system that all nodes share.
        partition: None for the cluster's default.
        gpus: of each job; 0 for none.
        time: limit of each job, ``"2:00:00"``, ``"1-12:00:00"`` or minutes.
        cpus: cores of each job; None for the cluster's default, which is often one.

    Raises:
        ValueError: for a time that cannot be read, or where there is no Slurm.
        RuntimeError: if jobs that were sent before with this folder are still in the queue.
    """

    pause, settle = 2.0, 15.0  # a shared file system may show the last files of a job late

    def __init__(self, folder, partition=None, gpus=1, time="2:00:00", cpus=None):
        self.gpus, limit = validation.whole("gpus", gpus, at_least=0), minutes(time)
        cores = {} if cpus is None else {"cpus_per_task": validation.whole("cpus", cpus)}
        missing = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise ValueError(f"cluster='slurm' needs Slurm's commands, and {', '.join(missing)} is not here; "
                             "run this on a login node of the cluster, or give --cluster local")
        import submitit  # here, since nothing else needs it

        name = f"trc-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
        queued = subprocess.run(["squeue", "--noheader", "--user", getpass.getuser(), f"--name={name}", "--format=%i"],
                                capture_output=True, text=True).stdout.split()
        if queued:
            raise RuntimeError(f"jobs that were sent before are still in the queue ({', '.join(queued)}); give the command again "
                               f"when they have ended, or end them: scancel --name={name}")
        self.executor = submitit.SlurmExecutor(folder)
        self.executor.update_parameters(
            job_name=name, time=limit, stderr_to_stdout=True, additional_parameters={"requeue": True}, **cores,
            **({"partition": partition} if partition else {}), **({"gpus_per_node": self.gpus} if self.gpus else {}))

    def room(self, running):
        return sys.maxsize

    def start(self, jobs):
        from trc_lib.course.batch.resumable import ResumableJob

        try:
            return self.executor.map_array(ResumableJob(self.gpus), [str(job.folder) for job in jobs])
        except Exception as error:  # submitit has several kinds of it; the last line is sbatch's
            raise RuntimeError(f"Slurm did not take the jobs: {str(error).strip().splitlines()[-1]}") from None

    def look(self, handles):
        asked = subprocess.run(["squeue", "--noheader", "--array", "--states=all", "--user", getpass.getuser(), "--format=%i %T"],
                               capture_output=True, text=True)
        if asked.returncode != 0:  # the controller is away for a moment: nothing is known, least of all that a job is dead
            return ["alive"] * len(handles)
        states = dict(line.split() for line in asked.stdout.splitlines() if len(line.split()) == 2)
        over = {"COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED"}
        seen = [states.get(handle.job_id) for handle in handles]
        return ["cancelled" if state == "CANCELLED" else "ended" if state is None or state in over else "alive" for state in seen]

    def cancel(self, handles):
        if handles:
            with contextlib.suppress(OSError):
                subprocess.run(["scancel", *(handle.job_id for handle in handles)], capture_output=True)


def minutes(time):
    """Slurm's ways to write a time, ``minutes``, ``h:mm:ss`` or ``d-h:mm:ss``, in whole minutes, rounded up."""
    parts = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)|(\d+)", str(time))
    if parts is None or not any(int(part or 0) for part in parts.groups()):
        raise ValueError(f"time={time!r} is not accepted; give minutes, or h:mm:ss, such as 2:00:00")
    days, hours, mins, seconds, alone = (int(part or 0) for part in parts.groups())
    return alone or 1440 * days + 60 * hours + mins + (seconds > 0)
