"""The optimal value of a prompt under the reference: from its row, or from samples drawn before the stage trains."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from rlvr.errors import RlvrError, RunStopped
from rlvr.objectives.regression import optimal_values
from rlvr.observe.files import write_atomically
from rlvr.recipe.arithmetic import prompts_drawn
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.recipe.preference_losses import AStarPoLoss
from rlvr.records import Group, Prompt, Rollout
from rlvr.scoring.total import RewardTotal

if TYPE_CHECKING:
    from rlvr.controller.context import StageContext
    from rlvr.recipe.schema import RlStage

REFERENCE_VALUE = "reference_value"
"""Column of prompts whose V* comes from samples of the run's own."""


def value_facts(rollout: Rollout, objective: ObjectiveConfig) -> dict[str, float]:
    """{"value": V*(x)} for A*-PO (2505.20686) whose values are known; nothing for any other objective."""
    column = _column(objective)
    if column is None:
        return {}
    value = rollout.prompt.columns.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RlvrError(
            f"objective.policy_loss.value_column={column!r}: prompt {rollout.prompt.id} holds {value!r} "
            "there; every row needs the number V* = beta log mean exp(reward / beta) of its reference samples"
        )
    return {"value": float(value)}


def has_value(rollout: Rollout, objective: ObjectiveConfig) -> bool:
    """False where V* was to come of samples, and no sample of the prompt could be scored."""
    return _column(objective) != REFERENCE_VALUE or REFERENCE_VALUE in rollout.prompt.columns


def sample_reference_values(context: StageContext[RlStage]) -> None:
    """Gives the stage's prompts V* of `policy_loss.reference_samples` completions each, where the recipe asks for it.

    The learner must hold the stage's starting weights: they sample. Rewards are kept in the run directory, so that
    a resumed run goes on with the same values. RunStopped where too many samples could not be scored.
    """
    stage, session = context.stage, context.session
    loss = stage.objective.policy_loss
    if not isinstance(loss, AStarPoLoss) or not loss.reference_samples:
        return
    file = context.run.reference_rewards(stage.name)
    known: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {}
    missing = [prompt for prompt in context.curriculum.ahead(prompts_drawn(stage)) if prompt.id not in known]
    if missing:
        context.progress.note(f"{stage.name}: V* of {len(missing)} prompts, from {loss.reference_samples} samples each")
        session.push()
        sampled = session.rollouts.generate(
            missing,
            loss.reference_samples,
            session.sampling(stage),
            (context.seed, stage.name, "reference"),
            session.environment(stage),
        )
        known |= rewards_by_prompt(context.judge(sampled), stage)
        session.rollouts.on_all("sleep")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, [json.dumps(known)])
    context.curriculum.prompts = with_values(context.curriculum.prompts, known, loss.value_beta)


def rewards_by_prompt(groups: Iterable[Group], stage: RlStage) -> dict[str, list[float]]:
    """The rewards of each prompt's samples, by its id; samples without one are left out, up to the recipe's limit."""
    total = RewardTotal(stage.reward)
    found: dict[str, list[float]] = {}
    num_lost = num_rollouts = 0
    for group in groups:
        # A group at a time: nothing but its rewards is kept of a sample.
        total.assign([group], 0, learn=False)
        rewards = [float(rollout.reward) for rollout in group.rollouts if rollout.reward is not None]
        num_rollouts += len(group.rollouts)
        num_lost += sum(bool(rollout.failures) for rollout in group.rollouts)
        found[group.prompt.id] = rewards
    if num_lost > stage.reward.on_failure.max_failure_rate * num_rollouts:
        raise RunStopped(
            f"reward.on_failure.max_failure_rate={stage.reward.on_failure.max_failure_rate:g}: verifiers broke for "
            f"{num_lost} of {num_rollouts} samples of the starting weights, from which V* was to be taken; mend the "
            "reward function, `rlvr reward test` shows how it fails"
        )
    return dict(sorted(found.items()))


def with_values(prompts: Sequence[Prompt], rewards: Mapping[str, Sequence[float]], beta: float) -> list[Prompt]:
    """The prompts with V* = beta log mean exp(reward / beta) in a column; those without rewards as they are."""
    found = []
    for prompt in prompts:
        own = torch.tensor(rewards.get(prompt.id, []), dtype=torch.float64)
        if len(own):
            value = float(optimal_values(own, torch.zeros(len(own), dtype=torch.long), beta)[0])
            prompt = replace(prompt, columns={**prompt.columns, REFERENCE_VALUE: value})
        found.append(prompt)
    return found


def _column(objective: ObjectiveConfig) -> str | None:
    loss = objective.policy_loss
    if not isinstance(loss, AStarPoLoss):
        return None
    return REFERENCE_VALUE if loss.reference_samples else loss.value_column
