"""`--to sky`: a managed job of SkyPilot."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from rlvr.errors import RecipeError, RlvrError
from rlvr.launch.job import Job
from rlvr.launch.render import render
from rlvr.launch.tools import require


def render_skypilot(job: Job) -> str:
    """The task; RecipeError where the recipe leaves out where its runs go."""
    launch = job.recipe.launch
    for key, value, why in (
        ("launch.skypilot.bucket", launch.skypilot.bucket, "a bucket for runs, e.g. s3://my-runs"),
        ("launch.storage", launch.storage, "the directory at which the bucket is mounted, e.g. /storage"),
    ):
        if value is None:
            raise RecipeError(f"{key}: --to sky needs {why}; write it in the recipe or as an override")
    runs_dir = job.runs_dir("sky", shared=True)
    train = job.train(job.inside_repository("sky"), f"runs_dir={runs_dir}", supervisor=job.limit())
    shape = job.shape
    head = [str(shape.cpus), str(shape.gpus), str(round(job.recipe.resources.start_timeout_s))]
    return render(
        "skypilot/task.yaml",
        job.values()
        | {
            "accelerators": f"{launch.skypilot.accelerator}:{shape.gpus}",
            "at_least_cpus": f"{shape.cpus}+",
            "at_least_memory": f"{shape.memory_gb}+",
            "setup": f"launch/setup.sh {'cuda' if shape.gpus else 'cpu'}",
            "run": shlex.join(["bash", "launch/skypilot/run.sh", *head, *train]),
        },
    )


def command(job: Job, task: Path) -> list[str]:
    secrets = [word for name in job.recipe.launch.secrets for word in ("--secret", name)]
    return ["sky", "jobs", "launch", "--yes", *secrets, str(task)]


def submit_skypilot(job: Job, task: Path) -> str:
    """Runs `sky jobs launch`, which streams the job's log until it ends or you press Ctrl-C (the job goes on)."""
    require("sky", "sky", "pip install skypilot in an environment of its own, then `sky check`")
    job.secrets()
    done = subprocess.run(command(job, task), stdout=sys.stdout, check=False)
    if done.returncode:
        raise RlvrError(f"`sky jobs launch` ended with {done.returncode}; its own words are above")
    return f"Follow it: sky jobs queue; sky jobs logs --name {job.name}"
