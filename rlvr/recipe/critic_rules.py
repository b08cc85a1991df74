"""Rules on the critic of an rl stage, with the objective and the batch that it works on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlvr.recipe.arithmetic import critic_optimizer_steps, divisors_near
from rlvr.recipe.credit import CreditConfig
from rlvr.recipe.critic import CriticConfig
from rlvr.recipe.schema import RlStage

Fault = tuple[tuple[str | int, ...], Any, str]
GAE = "gae"  # the advantage that a critic gives


def critic_faults(stage: RlStage) -> Iterator[Fault]:
    """(path below `objective`, value, fault with remedy) of every broken rule."""
    objective, critic = stage.objective, stage.objective.critic
    if critic is None:
        if objective.advantage == GAE:
            yield ("advantage",), GAE, "comes from a critic; add objective.critic ({} takes all defaults)"
        return
    if objective.advantage != GAE:
        text = f"advantage {objective.advantage!r} compares rewards and asks no critic; use gae, or set critic: null"
        yield ("advantage",), objective.advantage, text
    if objective.credit != CreditConfig():
        text = "gae places every reward at the token at which it is known; remove the section, or the critic"
        yield ("credit",), None, text
    if critic.truncated == "bootstrap" and objective.filter.mask_truncated:
        text = "filter.mask_truncated leaves cut completions out, which bootstrap is to learn from; use one of them"
        yield ("critic", "truncated"), "bootstrap", text
    yield from (((("critic", *loc)), value, text) for loc, value, text in _frozen_faults(critic))
    yield from (((("critic", *loc)), value, text) for loc, value, text in _step_faults(stage, critic))


def _frozen_faults(critic: CriticConfig) -> Iterator[Fault]:
    if critic.path is not None and critic.from_stage is not None:
        yield (
            ("from_stage",),
            critic.from_stage,
            "objective.critic.path says where the critic starts; remove one of them",
        )
    if critic.frozen and critic.path is None and critic.from_stage is None:
        yield ("frozen",), True, "a fresh head knows nothing; set objective.critic.path or from_stage"
    if critic.frozen and critic.warmup_steps:
        yield ("warmup_steps",), critic.warmup_steps, "a frozen critic does not learn; use 0"


def _step_faults(stage: RlStage, critic: CriticConfig) -> Iterator[Fault]:
    rollouts = stage.rollout.prompts_per_step * stage.rollout.group_size
    if rollouts % critic.mini_batches:
        near = " or ".join(map(str, divisors_near(rollouts, critic.mini_batches)))
        yield ("mini_batches",), critic.mini_batches, f"must divide the {rollouts} rollouts of a step; nearest: {near}"
    if critic.warmup_steps > stage.steps:
        yield ("warmup_steps",), critic.warmup_steps, f"the stage has {stage.steps} steps; use at most that"
    optimizer, total = critic.optimizer, critic_optimizer_steps(stage)
    if total and optimizer.schedule != "constant" and optimizer.warmup_steps >= total:
        text = f"the critic takes {total} steps, so the {optimizer.schedule} schedule never starts; use fewer"
        yield ("optimizer", "warmup_steps"), optimizer.warmup_steps, text
    for index, beta in enumerate(optimizer.betas):
        if not 0 <= beta < 1:
            yield ("optimizer", "betas", index), beta, "must lie in [0, 1)"
