"""A run whose completions go on over steps, and one whose values come from its own starting weights: both resume."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from rlvr.observe.rollout_log import read_rollouts
from rlvr.observe.run_log import read_metrics
from tests.end_to_end.conftest import ROOT, Finished, train

WINDOWS = [
    "stages.rl.preset=t_ppo",
    "stages.rl.objective.critic={optimizer: {lr: 3e-4}}",
    "stages.rl.rollout.window_tokens=10",
]
VALUES = [
    "stages.rl.preset=a_star_po",
    "stages.rl.rollout.group_size=1",
    "stages.rl.objective.policy_loss.reference_samples=4",
    "stages.rl.learner.mini_batches=1",
]


def rows(run: Path) -> list[dict]:
    return [row["metrics"] for row in read_metrics(run) if row["stage"] == "rl" and "step_s" in row["metrics"]]


def resumed(whole: Finished, directory: Path, *options: str) -> Path:
    """The run taken up again from the checkpoint of its first RL step."""
    copy = directory / "copy" / "whole"
    shutil.copytree(whole.path, copy)
    for step in (62, 63):
        shutil.rmtree(copy / "checkpoints" / f"step-{step:06d}")
    done = train(directory / "copy", "whole", *options, "--resume")
    assert done.code == 0, done.output
    return copy


@pytest.mark.slow
def test_completions_go_on_over_steps_and_over_a_resume(tmp_path: Path) -> None:
    """Each step extends what the last one left open, token by token (R11), each token by the weights of its step."""
    whole = train(tmp_path, "whole", *WINDOWS)
    assert whole.code == 0, whole.output
    steps = rows(whole.path)
    documented = (ROOT / "docs" / "metrics.md").read_text()
    assert "`windows/open`" in documented
    logged = [read_rollouts(whole.path / "rollouts" / f"step-{step:06d}.jsonl") for step in (61, 62, 63)]
    for before, after in itertools.pairwise(logged):
        left = {(row["prompt_id"], row["seed"]): row["segments"][0] for row in before if row["open"]}
        gone_on = [row for row in after if row["trained_tokens"]]
        assert len(gone_on) == len(left) > 0
        for row in gone_on:
            old, new = left[row["prompt_id"], row["seed"]], row["segments"][0]
            assert new["prompt_ids"] == old["prompt_ids"]
            assert new["completion_ids"][: row["trained_tokens"]] == old["completion_ids"]
            assert len(new["completion_ids"]) <= row["trained_tokens"] + 10
            versions = [version for version, _ in new["policy_versions"]]
            assert versions == sorted(set(versions))
            assert len(versions) == 1 + len(old["policy_versions"])
    for step, found in zip(steps, logged, strict=True):
        assert all((row["reward"] is None) == row["open"] for row in found)
        assert 57 <= len(found) <= 64
        new_tokens = sum(row["num_completion_tokens"] - row["trained_tokens"] for row in found)
        assert step["tokens/generated"][0] == step["trained_tokens"][0] == new_tokens
        # Only this step's tokens are compared with the engine's, and its weights sampled them.
        assert step["logprob_difference"][0] / step["logprob_difference"][1] < 1e-3
    again = rows(resumed(whole, tmp_path, *WINDOWS))
    for before, after in zip(steps, again, strict=True):
        for name in ("reward", "loss", "grad_norm", "windows/open", "critic/value_loss", "tokens/generated"):
            assert (name in after) == (name in before), name
            assert after.get(name, 0) == pytest.approx(before.get(name, 0), rel=1e-4, abs=1e-6), name
    # The critic learns from what has ended.
    ended = [any(not row["open"] for row in found) for found in logged]
    assert ["critic/value_loss" in step for step in steps] == ended
    assert ended[-1]


@pytest.mark.slow
def test_values_of_the_starting_weights_are_sampled_once(tmp_path: Path) -> None:
    whole = train(tmp_path, "whole", *VALUES)
    assert whole.code == 0, whole.output
    file = whole.path / "reference" / "rl.json"
    rewards = json.loads(file.read_text())
    assert len(rewards) == 3 * 8
    assert {len(values) for values in rewards.values()} == {4}
    assert {reward for values in rewards.values() for reward in values} <= {0.0, 1.0}
    drawn = read_rollouts(whole.path / "rollouts" / "step-000061.jsonl")
    assert all(row["prompt_id"] in rewards and "reference_value" in row["columns"] for row in drawn)
    steps = rows(whole.path)
    # D = 0 at the reference: the first loss is the mean of (r - V*)^2.
    expected = [(row["reward"] - row["columns"]["reference_value"]) ** 2 for row in drawn]
    total, count = steps[0]["loss"]
    assert total / count == pytest.approx(sum(expected) / len(expected), rel=1e-3)
    copy = resumed(whole, tmp_path, *VALUES)
    assert (copy / "reference" / "rl.json").read_text() == file.read_text()
    for before, after in zip(steps, rows(copy), strict=True):
        for name in ("reward", "loss", "grad_norm"):
            assert after[name] == pytest.approx(before[name], rel=1e-4, abs=1e-6), name
