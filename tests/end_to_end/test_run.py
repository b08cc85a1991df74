"""A whole run on the real stack: what it writes, that it resumes, that evaluation agrees with it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from rlvr.observe.rollout_log import read_rollouts
from rlvr.observe.run_log import read_metrics
from rlvr.observe.summary import read_summary
from rlvr.recipe.load import load_recipe
from tests.end_to_end.conftest import ONE_ENGINE, QUICKSTART, ROOT, SMALL, Finished, rlvr, train

NUM_SFT, NUM_RL, ROLLOUTS = 60, 3, 64


def rl_rows(path: Path) -> list[dict]:
    return [row for row in read_metrics(path) if row["stage"] == "rl" and "step_s" in row["metrics"]]


def test_the_run_directory_holds_what_the_docs_say(finished_run: Finished) -> None:
    run = finished_run.path
    for name in (
        "recipe.yaml",
        "metrics.jsonl",
        "summary.json",
        "log.txt",
        "export/config.json",
        "stages/sft/config.json",
    ):
        assert (run / name).is_file(), name
    assert list((run / "tensorboard").glob("events*"))
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == f"step-{NUM_SFT + NUM_RL:06d}"


def test_the_saved_recipe_is_the_run(finished_run: Finished) -> None:
    overrides = [f"runs_dir={finished_run.path.parent}", "name=whole", *SMALL]
    assert load_recipe(finished_run.path / "recipe.yaml") == load_recipe(QUICKSTART, overrides)


def test_every_rollout_is_on_disk(finished_run: Finished) -> None:
    """R23: every sample with its text, its ids, its reward components."""
    for step in range(NUM_SFT + 1, NUM_SFT + NUM_RL + 1):
        rows = read_rollouts(finished_run.path / "rollouts" / f"step-{step:06d}.jsonl")
        assert len(rows) == ROLLOUTS
        assert len({(row["prompt_id"], row["member"]) for row in rows}) == ROLLOUTS
        assert len({row["seed"] for row in rows}) == ROLLOUTS
        for row in rows:
            assert row["reward"] == row["outcomes"]["correct"]["score"]
            assert row["num_completion_tokens"] == len(row["segments"][0]["completion_ids"]) > 0


def test_engine_and_trainer_agree_at_every_step(finished_run: Finished) -> None:
    """R6: the mean |engine - trainer| logprob stays at rounding error in float32."""
    rows = rl_rows(finished_run.path)
    assert len(rows) == NUM_RL
    for row in rows:
        total, count = row["metrics"]["logprob_difference"]
        assert total / count < 1e-4


def test_the_token_waterfall_adds_up(finished_run: Finished) -> None:
    for row in rl_rows(finished_run.path):
        metrics = {name: total for name, (total, _) in row["metrics"].items()}
        lost = [value for name, value in metrics.items() if name.startswith("tokens/")]
        generated, trained, no_signal = (metrics[f"tokens/{name}"] for name in ("generated", "trained", "no_signal"))
        assert sum(lost) - generated - trained - no_signal == generated - trained
        assert metrics["trained_tokens"] == trained == generated


def test_every_logged_metric_is_documented(finished_run: Finished) -> None:
    documented = (ROOT / "docs" / "metrics.md").read_text()
    undocumented = {
        name
        for row in read_metrics(finished_run.path)
        for name in row["metrics"]
        # Named by the recipe, by k or by process, and documented as reward/<term>, eval/pass@k, memory/<name>.
        if f"`{name}`" not in documented
        and not re.match(r"(reward|reward_share|gate|failure_rate|memory)/|eval/(avg|pass|maj)@", name)
    }
    assert not undocumented


def test_every_step_says_what_each_process_held(finished_run: Finished) -> None:
    """R21: the largest batch went through the learner before step 1, and no step held more."""
    rows = read_metrics(finished_run.path)
    trial = "memory/worst_case_gb"
    tried = {row["stage"]: row["metrics"][trial][0] for row in rows if trial in row["metrics"]}
    assert set(tried) == {"sft", "rl"}
    for row in rl_rows(finished_run.path):
        held = {name: row["metrics"][name][0] for name in row["metrics"] if name.startswith("memory/")}
        kinds, phases = ("driver", "engine", "learner", "reward_worker"), ("rollout", "learn", "transfer")
        assert set(held) == {f"memory/{kind}/{phase}_gb" for kind in kinds for phase in phases}
        assert all(0.02 < value < 16 for value in held.values())
        # What a rank keeps from the trial and from checkpoints since is little beside what torch itself takes.
        assert held["memory/learner/learn_gb"] < 1.1 * tried["rl"]
        each = row["extra"]["memory_gb"]
        assert {"driver", "learner rank 0", "learner rank 1", "reward worker 0"} < set(each)
        assert held["memory/learner/learn_gb"] == pytest.approx(
            max(each[f"learner rank {rank}"]["learn"] for rank in range(2)), abs=1e-3
        )


def test_the_summary_reports_before_and_after(finished_run: Finished) -> None:
    summary = read_summary(finished_run.path)
    assert summary["status"] == "finished"
    stages = {stage["name"]: stage for stage in summary["stages"]}
    assert stages["sft"]["steps"] == NUM_SFT
    assert stages["rl"]["steps"] == NUM_RL
    assert stages["rl"]["before"]["num_prompts"] == 32
    assert stages["rl"]["generated_tokens"] > 0
    assert "accuracy" in finished_run.output


def test_offline_evaluation_agrees_with_the_run(finished_run: Finished, tmp_path: Path) -> None:
    """R24: the exported weights, the same evaluator and seed: the same scores as at the end of training.

    On one engine where training had two: their number changes nothing.
    """
    in_training = [row for row in read_metrics(finished_run.path) if row.get("extra")][-1]["extra"]["evaluation"]
    output = tmp_path / "result.json"
    done = rlvr(
        "eval",
        str(finished_run.path / "recipe.yaml"),
        "--model",
        str(finished_run.path / "export"),
        "--output",
        str(output),
        ONE_ENGINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    offline = json.loads(output.read_text())
    assert offline["metrics"] == in_training["metrics"]
    for key in ("template_hash", "sampling", "seed", "num_prompts", "truncated_fraction", "failed_fraction"):
        assert offline[key] == in_training[key], key


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_run(finished_run: Finished, tmp_path: Path) -> None:
    """R12: taken up after the first RL step, the remaining steps have the same prompts, rewards and losses."""
    copy = tmp_path / "whole"
    shutil.copytree(finished_run.path, copy)
    for step in (NUM_SFT + 2, NUM_SFT + 3):
        shutil.rmtree(copy / "checkpoints" / f"step-{step:06d}")
        (copy / "rollouts" / f"step-{step:06d}.jsonl").unlink()
    resumed = train(tmp_path, "whole", "--resume")
    assert resumed.code == 0, resumed.output
    whole, taken_up = rl_rows(finished_run.path), rl_rows(copy)
    assert [row["step"] for row in taken_up] == [row["step"] for row in whole]
    for before, after in zip(whole, taken_up, strict=True):
        for name in ("reward", "loss", "grad_norm", "entropy", "completion_tokens"):
            assert after["metrics"][name] == pytest.approx(before["metrics"][name], rel=1e-4, abs=1e-6), name
    for step in (NUM_SFT + 2, NUM_SFT + 3):
        name = f"rollouts/step-{step:06d}.jsonl"
        ours, theirs = read_rollouts(finished_run.path / name), read_rollouts(copy / name)
        assert [row["completion"] for row in ours] == [row["completion"] for row in theirs]
    for before, after in zip(*(read_summary(path)["stages"] for path in (finished_run.path, copy)), strict=True):
        for name in ("steps", "before", "after", "generated_tokens", "trained_tokens"):
            assert after[name] == before[name], name
    again = train(tmp_path, "whole", "--resume")
    assert again.code == 0, again.output
    assert "finished already" in again.output


def test_a_second_run_of_the_same_name_is_refused(finished_run: Finished) -> None:
    again = train(finished_run.path.parent, "whole")
    assert again.code == 2
    assert "--resume" in again.output
    other = train(finished_run.path.parent, "whole", "seed=5", "--resume")
    assert other.code == 2
    assert "differs" in other.output
    assert "seed" in other.output


def test_a_checkpoint_exports_to_a_loadable_model(finished_run: Finished, tmp_path: Path) -> None:
    """R13: the newest checkpoint is the exported model, tensor by tensor, in Hugging Face's own reading."""
    import torch
    from transformers import AutoModelForCausalLM

    output = tmp_path / "model"
    done = rlvr("export", str(finished_run.path), str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    ours = AutoModelForCausalLM.from_pretrained(output).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(finished_run.path / "export").state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert rlvr("export", str(finished_run.path), str(output)).returncode == 2
