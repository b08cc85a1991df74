"""One small run of the quickstart, made as a user makes it, shared by the tests of this folder."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart" / "addition.yaml"
# A cold start just long enough for some groups to have variance, then three RL steps with a checkpoint after each.
SMALL = [
    "stages.sft.steps=60",
    "stages.sft.learner.optimizer.lr=2e-3",
    "stages.rl.steps=3",
    "stages.rl.learner.optimizer.warmup_steps=0",
    "rollout.prompts_per_step=8",
    "rollout.group_size=8",
    "evaluation.num_prompts=32",
    "evaluation.num_samples=4",
    "evaluation.k=[1,4]",
    "checkpoint.every=1",
    "checkpoint.keep=100",
    "stages.sft.checkpoint.every=0",
]
# Where what is tested does not hang on their number: a second one takes 10 s of two cores to start.
ONE_ENGINE = "resources.engines.count=1"


@dataclass(frozen=True)
class Finished:
    """A run that ended: its directory, what it printed, its exit code."""

    path: Path
    output: str
    code: int


def rlvr(*arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """The command as installed, its output captured."""
    command = [sys.executable, "-m", "rlvr.cli.main", *arguments]
    environment = os.environ | {"COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, env=environment)


def train(runs: Path, name: str, *more: str) -> Finished:
    done = rlvr("train", str(QUICKSTART), f"runs_dir={runs}", f"name={name}", *SMALL, *more)
    return Finished(runs / name, done.stdout + done.stderr, done.returncode)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    run = train(tmp_path_factory.mktemp("runs"), "whole")
    assert run.code == 0, run.output
    return run
