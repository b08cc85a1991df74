"""Learner ranks of a model beside the policy."""

from __future__ import annotations

from typing import Any

from rlvr.learner.group import LearnerGroup
from rlvr.recipe.schema import LearnerConfig, LearnerResources, OptimizerConfig, ResourcesConfig
from rlvr.recipe.trained_models import Placed


def start_side_group(
    name: str,
    placed: Placed,
    ranks: int,
    optimizer: OptimizerConfig,
    resources: ResourcesConfig,
    learner: LearnerConfig,
    model_dir: str,
    total_steps: int,
    seed: int,
    epochs: int = 1,
    mini_batches: int = 1,
    **setup: Any,
) -> LearnerGroup:
    """Starts the ranks and loads `model_dir`; what is not said here is as in the stage's `learner` section.

    `name` is what errors call the ranks, `setup` further arguments of `LearnerGroup.setup`. A failure leaves none.
    """
    device = "cuda" if placed.gpus else "cpu"
    own = resources.model_copy(
        update={"learners": LearnerResources(count=ranks, threads=placed.threads), "device": device}
    )
    options = [{"num_gpus": placed.gpus} for _ in range(ranks)] if placed.gpus else None
    group = LearnerGroup(own, device, options, name=name)
    try:
        group.start()
        # The ranks of a side model are few and its rows as short: each has rows of its own.
        trained = {
            "optimizer": optimizer,
            "epochs": epochs,
            "mini_batches": mini_batches,
            "sequence_parallel": 1,
        }
        group.setup(model_dir, learner.model_copy(update=trained), total_steps, seed, **setup)
    except BaseException:
        group.close()
        raise
    return group
