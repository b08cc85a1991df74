"""Which gold answers a stage checks before its first rollout: those that it scores (R19)."""

from pathlib import Path

import pytest

from rlvr.controller.run import check_golds
from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import RewardConfig, RewardResources, RewardTerm
from rlvr.records import Prompt
from rlvr.scoring.service import RewardService
from rlvr.tasks.prompts import PromptSet

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "addition.yaml"


def prompt_set(*golds):
    prompts = [Prompt(id=f"id-{i}", token_ids=(1,), text="?", answer=gold) for i, gold in enumerate(golds)]
    return PromptSet(prompts, None, 0)


@pytest.fixture(scope="module")
def rewards(ray_cluster):
    service = RewardService(RewardConfig(terms={"m": RewardTerm(fn="math")}), RewardResources(processes=1), 60.0)
    yield service
    service.close()


def stages(num_prompts):
    recipe = load_recipe(RECIPE, [f"evaluation.num_prompts={num_prompts}"])
    return {stage.kind: stage for stage in recipe.stages}


def test_only_what_is_scored_is_checked(rewards):
    good, bad = prompt_set("1", "2"), prompt_set("1", "no number here")
    sft, rl = (stages(2)[kind] for kind in ("sft", "rl"))
    check_golds(rewards, rl, good, good)
    check_golds(rewards, sft, bad, good)  # demonstrations are imitated, never scored
    check_golds(rewards, rl, good, None)
    with pytest.raises(RecipeError, match=rf"stages\.{rl.name}: task\.train: 1 of 2 .*(?s:.*)id-1"):
        check_golds(rewards, rl, bad, good)
    for stage in (rl, sft):
        with pytest.raises(RecipeError, match=rf"stages\.{stage.name}: task\.test: 1 of 2 "):
            check_golds(rewards, stage, good, bad)
    check_golds(rewards, stages(1)["rl"], good, bad)  # evaluation.num_prompts=1 leaves the bad one out
