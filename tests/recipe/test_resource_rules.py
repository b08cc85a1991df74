"""Rules of the resources section, and the GPUs that a recipe asks for."""

from pathlib import Path

import pytest

from rlvr.recipe.arithmetic import side_processes
from rlvr.recipe.critic import CriticConfig
from rlvr.recipe.load import load_recipe
from rlvr.recipe.resource_rules import resource_faults
from rlvr.recipe.resources import ResourcesConfig
from rlvr.recipe.reward import RewardTerm
from rlvr.recipe.side_models import VllmModel
from rlvr.recipe.trained_models import ClassifierModel

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart" / "addition.yaml"
VALUES = {"engines": {"count": 2, "tensor_parallel": 2}, "learners": {"count": 4}, "device": "cuda"}


@pytest.mark.parametrize(
    ("section", "engine", "broken"),
    [
        (VALUES | {"placement": "colocated"}, "vllm", []),
        (VALUES | {"placement": "colocated", "transfer": "ipc"}, "vllm", []),
        (VALUES | {"transfer": "nccl"}, "vllm", []),
        (VALUES | {"placement": "colocated", "learners": {"count": 3}}, "vllm", [("learners", "count")]),
        (VALUES | {"transfer": "ipc"}, "vllm", [("transfer",)]),
        (VALUES | {"placement": "colocated", "transfer": "nccl"}, "vllm", [("transfer",)]),
        (VALUES, "transformers", [("engines", "tensor_parallel")]),
        ({"device": "cpu", "transfer": "nccl"}, "vllm", [("transfer",)]),
        ({"device": "cpu", "placement": "colocated"}, "vllm", [("placement",)]),
        ({"ports": [3000, 2000]}, "vllm", [("ports",)]),
        (
            {"placement": "colocated", "engines": {"node_labels": {"pool": "a"}}},
            "vllm",
            [("learners", "node_labels")],
        ),
    ],
)
def test_each_rule(section, engine, broken):
    found = list(resource_faults(ResourcesConfig.model_validate(section), engine))
    assert [loc for loc, _, _ in found] == broken
    assert all(text for _, _, text in found)


def test_processes_beside_the_policy_are_counted_in_the_stage_that_asks_for_most():
    """R22: a judge of 1.5 GPUs takes two whole ones; a model that no term asks takes none."""
    sft, rl = load_recipe(QUICKSTART).stages
    judge = VllmModel(kind="vllm", path="a/judge", gpus=1.5)
    scorer, idle = (ClassifierModel(kind="classifier", path="a/model", gpus=0.5) for _ in range(2))
    terms = rl.reward.terms | {"scored": RewardTerm(fn="reward_model", model="scorer")}
    models = {"judge": judge, "scorer": scorer, "idle": idle}
    asking = rl.reward.model_copy(update={"terms": terms, "models": models})
    with_critic = rl.objective.model_copy(update={"critic": CriticConfig(gpus=1, ranks=2)})
    stages = [
        sft.model_copy(update={"reward": asking}),
        rl.model_copy(update={"reward": asking, "objective": with_critic}),
    ]
    assert side_processes(stages) == [
        ("reward.models.judge", 2),
        ("reward.models.scorer", 0.5),
        ("objective.critic", 1.0),
        ("objective.critic", 1.0),
    ]
    assert side_processes(stages[:1]) == [("reward.models.judge", 2), ("reward.models.scorer", 0.5)]
