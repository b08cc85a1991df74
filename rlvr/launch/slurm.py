"""`--to slurm`: a batch job that starts Ray over its allocation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from rlvr.errors import RecipeError, RlvrError
from rlvr.launch.job import Job
from rlvr.launch.render import ROOT, render
from rlvr.launch.tools import require

# What a shell needs to find its programs, beside the recipe's own variables.
EXPORTED = ("PATH", "HOME", "USER", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "RLVR_HEAD_IP")


def render_slurm(job: Job) -> str:
    """The batch script."""
    launch = job.recipe.launch
    if launch.slurm.setup is not None and not (ROOT / launch.slurm.setup).is_file():
        raise RecipeError(f"launch.slurm.setup={launch.slurm.setup!r}: no such file in {ROOT}")
    runs_dir = Path(job.runs_dir("slurm", shared=False)).resolve()
    passed = [*EXPORTED, *_matching(job.recipe.resources.pass_environment), *launch.secrets]
    # Slurm keeps the time limit itself: it warns the job, which goes back into the queue.
    arguments = job.train(str(job.path.resolve()), f"runs_dir={runs_dir}")
    return render(
        "slurm/rlvr.sbatch",
        job.values()
        | {
            "slurm_time": _time(job.time_limit_s or 0),
            "output": str(runs_dir / f"{job.name}.slurm-%j.log"),
            "exported": ",".join(dict.fromkeys(passed)),
            "python": sys.executable,
            "arguments": arguments,
        },
    )


def command(job: Job, script: Path) -> list[str]:
    return ["sbatch", "--parsable", str(script)]


def submit_slurm(job: Job, script: Path) -> str:
    """Submits the script; what to tell the user. RlvrError with sbatch's own words where it refuses."""
    require(
        "sbatch", "slurm", "run it on a login node of the cluster (Debian and Ubuntu: apt-get install slurm-client)"
    )
    job.secrets()
    # Slurm does not create it, and a job without its output file fails without a word.
    Path(job.runs_dir("slurm", shared=False)).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command(job, script), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RlvrError(f"sbatch refused {script} (exit code {done.returncode}): {done.stderr.strip()}")
    number = done.stdout.strip().split(";")[0]
    log = Path(job.runs_dir("slurm", shared=False)) / f"{job.name}.slurm-{number}.log"
    return (
        f"Slurm job {number}; follow it with: tail -F {log}\n"
        f"Save and end: scancel --batch --signal=TERM {number}\n"
        f"Save and go back into the queue: scancel --batch --signal=USR1 {number}"
    )


def _matching(patterns: Sequence[str]) -> list[str]:
    return sorted(name for name in os.environ if any(fnmatch(name, pattern) for pattern in patterns))


def _time(seconds: int) -> str:
    """Slurm's days-hours:minutes:seconds."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
