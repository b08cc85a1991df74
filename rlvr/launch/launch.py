"""`rlvr launch`: renders what a target needs from a recipe, shows it or submits it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlvr.errors import RecipeError
from rlvr.launch import kubernetes, skypilot, slurm
from rlvr.launch.job import Job
from rlvr.launch.ray_job import render_ray, submit_ray
from rlvr.launch.render import ROOT
from rlvr.slots import near_miss

Say = Callable[[str], None]

# Target -> (what the rendered file is called, how it is rendered).
RENDERED: dict[str, tuple[str, Callable[[Job], str]]] = {
    "slurm": (".sbatch", slurm.render_slurm),
    "k8s": (".k8s.yaml", kubernetes.render_kubernetes),
    "sky": (".sky.yaml", skypilot.render_skypilot),
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
    suffix, render = RENDERED[target]
    text = render(job)
    file = ROOT / "runs" / f"{job.name}{suffix}"
    if dry_run:
        say(f"{text}\n# submitted with: {shlex.join(_command(target, job, file))}")
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    submit = {
        "slurm": slurm.submit_slurm,
        "k8s": kubernetes.submit_kubernetes,
        "sky": skypilot.submit_skypilot,
    }[target]
    say(submit(job, file))
    return 0


def _command(target: str, job: Job, file: Path) -> list[str]:
    if target == "sky":
        return skypilot.command(job, file)
    return slurm.command(file) if target == "slurm" else kubernetes.command(file)


def _local(job: Job, dry_run: bool, say: Say) -> int:
    """Becomes the run, on this machine."""
    command = [sys.executable, "-m", *job.train(str(job.path), supervisor=job.limit())]
    if dry_run:
        say(shlex.join(command))
        return 0
    sys.stdout.flush()
    os.execv(command[0], command)
