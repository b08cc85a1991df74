"""`rlvr launch`: renders what a target needs from a recipe, shows it or submits it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rlvr.errors import RecipeError
from rlvr.launch import kubernetes, skypilot, slurm
from rlvr.launch.job import Job
from rlvr.launch.ray_job import render_ray, submit_ray
from rlvr.launch.render import ROOT
from rlvr.slots import near_miss

Say = Callable[[str], None]


class Rendered(NamedTuple):
    """A target that takes a file: how the file's name ends, its text, the command that submits it, the submission."""

    suffix: str
    render: Callable[[Job], str]
    command: Callable[[Job, Path], list[str]]
    submit: Callable[[Job, Path], str]


RENDERED = {
    "slurm": Rendered(".sbatch", slurm.render_slurm, slurm.command, slurm.submit_slurm),
    "k8s": Rendered(".k8s.yaml", kubernetes.render_kubernetes, kubernetes.command, kubernetes.submit_kubernetes),
    "sky": Rendered(".sky.yaml", skypilot.render_skypilot, skypilot.command, skypilot.submit_skypilot),
}
TARGETS = ("local", "ray", *RENDERED)


def launch(path: Path, overrides: Sequence[str], target: str, *, dry_run: bool, say: Say) -> int:
    """Shows (`dry_run`) or submits one recipe; the exit code. RecipeError for what a target cannot do."""
    if target not in TARGETS:
        raise RecipeError(f"--to {target}: unknown; {near_miss(target, TARGETS)}choose one of {', '.join(TARGETS)}")
    job = Job.read(path, overrides)
    if target == "local":
        return _local(job, dry_run, say)
    if target == "ray":
        if dry_run:
            say(render_ray(job))
            return 0
        return submit_ray(job, say)
    rendered = RENDERED[target]
    text = rendered.render(job)
    file = ROOT / "runs" / f"{job.name}{rendered.suffix}"
    if dry_run:
        say(f"{text}\n# submitted with: {shlex.join(rendered.command(job, file))}")
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    say(rendered.submit(job, file))
    return 0


def _local(job: Job, dry_run: bool, say: Say) -> int:
    """Becomes the run, on this machine."""
    command = [sys.executable, "-m", *job.train(str(job.path), supervisor=job.limit())]
    if dry_run:
        say(shlex.join(command))
        return 0
    sys.stdout.flush()
    os.execv(command[0], command)
