"""What Slurm runs: apart from `engines`, since it needs submitit."""

import submitit

from trc_lib.course.batch.job import run_job


class ResumableJob(submitit.helpers.Checkpointable):
    """Runs a job; preempted or out of time, it asks to be queued again, and goes on where it was. ``gpus``: as in `run_job`."""

    def __init__(self, gpus):
        self.gpus = gpus

    def __call__(self, folder):
        run_job(folder, gpus=self.gpus)
