"""The command line: faults are told at once, with a remedy, and with their exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from rlvr.cli.main import app
from rlvr.cli.train import only_kind
from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe
from tests.end_to_end.conftest import ONE_ENGINE, QUICKSTART, ROOT, SMALL, rlvr


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("rollout.groupsize=4", "did you mean 'group_size'"),
        ("rollout.group_size=four", "rollout.group_size='four'"),
        ("learner.mini_batches=7", "learner.mini_batches=7"),
        ("stages.rl.objective.advantage=grppo", "grppo"),
        ("rollout.top_p=0.9", "top_p"),
    ],
)
def test_a_faulty_recipe_ends_with_2_and_the_remedy(override: str, fault: str) -> None:
    """R14, R15, R5: before anything starts."""
    done = CliRunner().invoke(app, ["train", str(QUICKSTART), override])
    assert done.exit_code == RecipeError.exit_code == 2
    assert fault in done.stderr


def test_an_error_has_no_traceback() -> None:
    done = rlvr("train", "recipes/nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_the_arithmetic() -> None:
    """As a command; every recipe of the repository: tests/recipe/test_shipped_recipes.py."""
    done = rlvr("check", str(QUICKSTART))
    assert done.returncode == 0, done.stderr
    assert "The recipe is consistent" in done.stdout


def test_sft_runs_the_supervised_stages_only() -> None:
    recipe = load_recipe(QUICKSTART)
    assert [stage.kind for stage in only_kind(recipe, "sft", QUICKSTART).stages] == ["sft"]
    with pytest.raises(RecipeError, match="has no `eval` stage; its stages are"):
        only_kind(recipe, "eval", QUICKSTART)


def test_help_teaches() -> None:
    shown = rlvr("--help").stdout
    for command in ("train", "sft", "eval", "rehearse", "check", "export", "doctor", "version"):
        assert command in shown
        assert len(CliRunner().invoke(app, [command, "--help"]).stdout) > 200


def test_doctor_finds_this_machine_fit() -> None:
    done = rlvr("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stack in a Ray worker" in done.stdout


def test_the_largest_recipe_rehearses_with_other_choices(tmp_path: Path) -> None:
    """128 GPUs, a hub model, hub data and ZeRO-3 in bfloat16 come down to two CPU cores; with it choices that no
    shipped recipe makes: the other engine, KL in the reward against a reference, a user's own reward that breaks for
    every thirteenth completion or so (R2: the run goes on).
    """
    reward = tmp_path / "mine.py"
    reward.write_text(
        "def length(completion, num_tokens):\n"
        "    if sum(map(ord, completion)) % 13 == 0:\n"
        "        raise ValueError('unlucky')\n"
        "    return -num_tokens / 100\n"
    )
    done = rlvr(
        "rehearse",
        str(ROOT / "recipes" / "scale" / "dapo-math-qwen2.5-32b.yaml"),
        "rollout.engine=transformers",
        "resources.engines.tensor_parallel=1",
        "stages.rl.preset=dr_grpo",
        "stages.rl.objective.kl={coefficient: 0.01, estimator: k1, placement: reward}",
        f"reward.terms.mine={{fn: {reward}:length, weight: 0.5}}",
        "reward.on_failure={retries: 0, max_failure_rate: 0.9}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rl steps" in done.stdout
    assert "Nothing was learnt" not in done.stdout


@pytest.mark.slow
def test_sigterm_saves_and_leaves_no_process(tmp_path: Path) -> None:
    """R22: the run ends after its step with a checkpoint, and every process that it started is gone."""
    arguments = ["train", str(QUICKSTART), f"runs_dir={tmp_path}", *SMALL, ONE_ENGINE, "stages.sft.steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlvr.cli.main", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    metrics = tmp_path / "addition" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size > 0):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) > 3
    os.kill(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=90)[0].decode()
    assert process.returncode == 143, output
    assert "--resume" in output
    assert list((tmp_path / "addition" / "checkpoints").glob("step-*/manifest.json"))
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive, [child.cmdline() for child in alive]
