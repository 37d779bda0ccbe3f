"""Where jobs run: processes on this machine, or a Slurm cluster.

An engine starts jobs, reports on them and ends them. A job is "alive", "ended" (well or not, see
its ``state.json``), or "cancelled" by somebody else.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import submitit
import torch

import trc_lib
from trc_lib import validation
from trc_lib.course.batch.job import run_job


class Local:
    """Processes on this machine, ``workers`` at a time."""

    pause = 0.2   # seconds between two looks at the jobs
    settle = 0.0  # seconds until the last files of an ended job are seen here

    def __init__(self, workers=1):
        self.workers = validation.whole("workers", workers)
        self.started = []  # pairs of a process and its GPU

    def room(self, running):
        """How many jobs can be started beside ``running`` others."""
        return self.workers - running

    def start(self, jobs):
        """Start jobs; returns a handle for each."""
        return [self._start(job) for job in jobs]

    def _start(self, job):
        library = str(pathlib.Path(trc_lib.__file__).parents[1])  # the job shall import the same
        paths = [library, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment, gpu, output = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, None, None
        if self.workers > 1:  # they share terminal, cores and GPUs
            output = subprocess.DEVNULL
            cores = max(1, torch.get_num_threads() // self.workers)  # of those allowed to us
            environment.setdefault("OMP_NUM_THREADS", str(cores))
            if gpus := _gpus():
                taken = [gpu for process, gpu in self.started if process.poll() is None]
                gpu = environment["CUDA_VISIBLE_DEVICES"] = min(gpus, key=taken.count)
        # In a session of its own (on Windows a group), so that Ctrl-C reaches only this process,
        # which then ends the job. If it is killed, the job's standard input closes, and it ends.
        process = subprocess.Popen(
            [sys.executable, "-m", "trc_lib.course.batch.job", str(job.folder)], env=environment,
            stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
        self.started.append((process, gpu))
        return process

    def look(self, handles):
        """The state of each job."""
        return ["alive" if process.poll() is None else "ended" for process in handles]

    def cancel(self, handles):
        """End what still runs: by SIGTERM, and after 20 seconds by SIGKILL; on Windows at once."""
        for process in handles:
            process.terminate()
        for process in handles:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _gpus():
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(gpu) for gpu in range(count)]


class Slurm:
    """A Slurm cluster: submitit sends the jobs as one array, and ``squeue`` reports on them.

    Args:
        folder: for scripts, pickles and output, on a file system that all nodes share.
        partition: None for the cluster's default.
        gpus: of each job; 0 for none.
        time: limit of each job, ``"2:00:00"``, ``"1-12:00:00"`` or minutes.
        cpus: cores of each job; None for the cluster's default, which is often one.

    Raises:
        ValueError: for a time that cannot be read, or where Slurm is missing.
        RuntimeError: if jobs of an earlier call with this folder are still in the queue.
    """

    pause = 2.0
    settle = 15.0  # a shared file system may show files late

    def __init__(self, folder, partition=None, gpus=1, time="2:00:00", cpus=None):
        self.gpus, limit = validation.whole("gpus", gpus, at_least=0), minutes(time)
        options = {"partition": partition, "gpus_per_node": self.gpus or None, "cpus_per_task":
                   None if cpus is None else validation.whole("cpus", cpus)}
        commands = ("sbatch", "srun", "squeue", "scancel")
        missing = ", ".join(name for name in commands if shutil.which(name) is None)
        if missing:
            raise ValueError(f"cluster='slurm' needs Slurm's commands, and {missing} is not here; "
                             "run this on a login node of the cluster, or give --cluster local")
        name = f"trc-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
        queued = _squeue(f"--name={name}", "--format=%i").stdout.split()
        if queued:
            raise RuntimeError(f"jobs that were sent before are still in the queue "
                               f"({', '.join(queued)}); give the command again when they have "
                               f"ended, or end them: scancel --name={name}")
        self.executor = submitit.SlurmExecutor(folder)
        self.executor.update_parameters(
            job_name=name, time=limit, stderr_to_stdout=True,
            additional_parameters={"requeue": True},
            **{option: value for option, value in options.items() if value is not None})

    def room(self, running):
        return sys.maxsize

    def start(self, jobs):
        try:
            return self.executor.map_array(ResumableJob(self.gpus), [str(j.folder) for j in jobs])
        except Exception as error:  # of several kinds; the last line is sbatch's
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"Slurm did not take the jobs: {reason}") from None

    def look(self, handles):
        asked = _squeue("--array", "--states=all", "--format=%i %T")
        if asked.returncode != 0:  # the controller does not answer: nothing is known of the jobs
            return ["alive"] * len(handles)
        states = dict(line.split() for line in asked.stdout.splitlines() if len(line.split()) == 2)
        words = dict.fromkeys([None, "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY",
                               "BOOT_FAIL", "DEADLINE", "PREEMPTED"], "ended")
        words["CANCELLED"] = "cancelled"
        return [words.get(states.get(handle.job_id), "alive") for handle in handles]

    def cancel(self, handles):
        if handles:
            with contextlib.suppress(OSError):
                ids = [handle.job_id for handle in handles]
                subprocess.run(["scancel", *ids], capture_output=True)


class ResumableJob(submitit.helpers.Checkpointable):
    """What Slurm runs; preempted or out of time, it is queued again and goes on."""

    def __init__(self, gpus):
        self.gpus = gpus

    def __call__(self, folder):
        run_job(folder, gpus=self.gpus)


def _squeue(*options):
    # by number: in a container a user may have no name
    return subprocess.run(["squeue", "--noheader", "--user", str(os.getuid()), *options],
                          capture_output=True, text=True)


def minutes(time):
    """Slurm's notations of a time, minutes, h:mm:ss and d-h:mm:ss, in minutes, rounded up."""
    parts = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)|(\d+)", str(time))
    if parts is None or not any(int(part or 0) for part in parts.groups()):
        raise ValueError(f"time={time!r} is not accepted; give minutes, or h:mm:ss, "
                         "such as 2:00:00")
    days, hours, mins, seconds, alone = (int(part or 0) for part in parts.groups())
    return alone or 1440 * days + 60 * hours + mins + (seconds > 0)
