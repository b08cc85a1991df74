"""The advantages of a step's rollouts: what their function may ask for, and what is done to them afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlvr.errors import RlvrError
from rlvr.objectives import group_weights
from rlvr.objectives.advantages import ADVANTAGES
from rlvr.objectives.facts import Advantage, UnknownFact, bind, by_domain
from rlvr.recipe.advantage import AdvantageOptions, ColumnWeight, GroupWeight
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.records import Group, Rollout, Score
from rlvr.slots import resolve

GREEDY, NO_BASELINE = "greedy_baseline", "no_baseline"  # reasons of `Rollout.dropped`


def is_greedy(rollout: Rollout) -> bool:
    """Whether a rollout is its group's greedy one, which is compared with and never trains."""
    return rollout.sampling.temperature == 0


def set_greedy_aside(groups: Sequence[Group]) -> None:
    """Marks greedy rollouts as dropped; where one has no reward, its group has nothing to be compared with."""
    for group in groups:
        for greedy in [rollout for rollout in group.rollouts if is_greedy(rollout)]:
            greedy.dropped = greedy.dropped or GREEDY
            if greedy.reward is None:
                for rollout in group.kept:
                    rollout.dropped = NO_BASELINE


def greedy_rewards(groups: Sequence[Group]) -> list[float]:
    """The reward of the greedy rollout of the group of each kept rollout, in order; empty where groups have none."""
    found = []
    for group in groups:
        rewards = [rollout.reward for rollout in group.rollouts if is_greedy(rollout) and rollout.reward is not None]
        if group.kept and not rewards:
            return []
        found += [float(rewards[0]) for _ in group.kept]
    return found


def advantage_of(objective: ObjectiveConfig, rollouts: Sequence[Rollout], baselines: Sequence[float] = ()) -> Advantage:
    """The recipe's advantage as a function of rewards and groups [N] of these very rollouts.

    It may ask by name for `lengths` (sampled tokens) and `domains` (numbers) of the rollouts, for `baselines` (rewards
    of greedy rollouts) where the recipe has those sampled, and for the options of the recipe. RlvrError if it asks
    for anything else.
    """
    names = {name: number for number, name in enumerate(sorted({rollout.prompt.domain for rollout in rollouts}))}
    domains = torch.tensor([names[rollout.prompt.domain] for rollout in rollouts], dtype=torch.long)
    facts: dict[str, Any] = {
        "lengths": torch.tensor([rollout.num_sampled_tokens for rollout in rollouts]),
        "domains": domains,
    }
    if baselines:
        facts["baselines"] = torch.tensor(baselines, dtype=torch.float32)
    return _bound(objective, facts, domains)


def advantage_of_tokens(objective: ObjectiveConfig) -> Advantage:
    """The same for numbers that are not those of whole rollouts: a function that asks about rollouts is refused."""
    return _bound(objective, {}, None)


def _bound(objective: ObjectiveConfig, facts: Mapping[str, Any], domains: Tensor | None) -> Advantage:
    options = objective.advantage_options
    function = resolve(objective.advantage, ADVANTAGES, "objective.advantage")
    known = {"pass_k": options.pass_k, "reward_range": options.reward_range, **facts}
    try:
        bound = bind(function, known)
    except UnknownFact as error:
        raise RlvrError(f"objective.advantage={objective.advantage!r}: {error}") from error
    if options.scope == "domain" and domains is not None:
        return by_domain(function, known, domains)
    return bound


def finished(
    advantages: Sequence[float | np.ndarray],
    rollouts: Sequence[Rollout],
    groups: Tensor,
    config: AdvantageOptions,
) -> list[float | np.ndarray]:
    """Advantages of rollouts, or of their tokens, whitened, filtered, then weighted by difficulty."""
    sizes = [len(np.atleast_1d(row)) for row in advantages]
    flat = torch.from_numpy(np.concatenate([np.atleast_1d(np.asarray(row, dtype=np.float32)) for row in advantages]))
    if config.whiten:
        flat = group_weights.whitened(flat, torch.tensor(sizes))
    if config.max_sigma is not None:
        flat = group_weights.within_sigma(flat, config.max_sigma)
    flat = group_weights.one_sided(flat, config.keep)
    if config.group_weight is not None:
        weights = difficulty_weights(config.group_weight, rollouts, groups)
        flat = flat * weights.repeat_interleave(torch.tensor(sizes)).to(flat.dtype)
    if all(np.ndim(row) == 0 for row in advantages):
        return flat.tolist()
    return [row.numpy() for row in flat.split(sizes)]


def difficulty_weights(config: GroupWeight, rollouts: Sequence[Rollout], groups: Tensor) -> Tensor:
    """The factor of each rollout's advantage, [N]."""
    if isinstance(config, ColumnWeight):
        sizes = torch.tensor([_column(rollout, config.column) for rollout in rollouts], dtype=torch.float64)
        return group_weights.inverse_weights(sizes, 1 / config.largest, 1 / config.smallest)
    scores = torch.tensor([_score(rollout, config.term) for rollout in rollouts], dtype=torch.float64)
    if config.name == "exp":
        return group_weights.exponential_weights(scores, groups)
    if config.name == "power":
        return group_weights.power_weights(scores, groups, config.power)
    return group_weights.log_weights(scores, groups)


def _score(rollout: Rollout, term: str | None) -> float:
    """The reward, or the score of a term; 0 where a verifier abstained or failed."""
    if term is None:
        return float(rollout.reward or 0.0)
    outcome = rollout.outcomes.get(term)
    return outcome.value if isinstance(outcome, Score) else 0.0


def _column(rollout: Rollout, column: str) -> float:
    value = rollout.prompt.columns.get(column)
    if not isinstance(value, int | float) or not value > 0:
        raise RlvrError(
            f"objective.advantage_options.group_weight.column={column!r}: prompt {rollout.prompt.id!r} has {value!r} "
            "there; every row needs a positive number"
        )
    return float(value)
