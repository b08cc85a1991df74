"""Derived quantities, against hand-worked numbers (R15, R16)."""

from pathlib import Path

import pytest

from rlvr.recipe.arithmetic import context_length, derive, num_evaluations, total_optimizer_steps
from rlvr.recipe.load import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def quantities(stage, resources):
    return {quantity: value for quantity, value, _ in derive(stage, resources)}


def test_the_dapo_paper_makes_16_updates_of_512_rollouts_per_step():
    recipe = load_recipe(RECIPES / "scale/dapo-math-qwen2.5-32b.yaml")
    stage = recipe.stages[0]
    rows = quantities(stage, recipe.resources)
    # DAPO, section 4.1: 512 prompts x 16 = 8192 rollouts in mini-batches of 512: 16 updates.
    assert rows["rollouts per step"] == 8192
    assert rows["rollouts per mini-batch"] == 512
    assert rows["optimizer steps per step"] == 16
    # Warm-up over 20 rollout steps: 20 x 16.
    assert stage.learner.optimizer.warmup_steps == 320
    assert total_optimizer_steps(stage) == 400 * 16
    # 2048 prompt + 16384 + 4096 completion tokens.
    assert context_length(stage) == rows["engine context length"] == 22528
    # All at full length, one fits into the budget at a time: 512 / 64 ranks.
    assert rows["micro-batches per rank, all at full length"] == 8
    assert rows["rollouts generated per step, at most"] == 81920
    assert rows["reference policy"] == "no"


def test_the_7b_recipe_keeps_the_papers_rollouts_per_update():
    recipe = load_recipe(RECIPES / "tasks/dapo-math-qwen2.5-7b.yaml")
    assert quantities(recipe.stages[0], recipe.resources)["rollouts per mini-batch"] == 512
    # 20 rollout steps x 4 updates.
    assert recipe.stages[0].learner.optimizer.warmup_steps == 80


def test_epochs_and_mini_batches_multiply():
    recipe = load_recipe(RECIPES / "quickstart/addition.yaml", ["stages.rl.learner={epochs: 2, mini_batches: 4}"])
    sft, rl = recipe.stages
    assert total_optimizer_steps(sft) == 180
    assert total_optimizer_steps(rl) == 60 * 2 * 4
    # 180 x 64 = 11520 demonstrations, 11520 / 4096 = 2.8125 passes.
    assert ("demonstrations in all", 11520, "180 steps x 64 = 2.8 epochs") in derive(sft, recipe.resources)


def test_a_longer_evaluation_decides_the_context_length():
    stage = load_recipe(RECIPES / "quickstart/addition.yaml", ["evaluation.max_completion_tokens=90"]).stages[1]
    assert context_length(stage) == 16 + 90


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        ([], 4),  # 0, 20, 40, 60
        (["evaluation.every=25"], 4),  # 0, 25, 50, 60
        (["evaluation.every=25", "evaluation.at_end=false"], 3),
        (["evaluation.every=0"], 2),
        (["evaluation.every=0", "task.test=null"], 0),
    ],
)
def test_evaluations_are_counted(overrides, times):
    assert num_evaluations(load_recipe(RECIPES / "quickstart/addition.yaml", overrides).stages[1]) == times
