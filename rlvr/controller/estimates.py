"""From rollouts with the values of their tokens to advantages, and to the returns that the values learn.

Legend: N = rollouts, T = sampled tokens of the longest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlvr.controller.credit import worth_of
from rlvr.controller.side_learner import turn_spans
from rlvr.objectives.credit import token_credits
from rlvr.objectives.gae import final_values, gae, length_adaptive_lambda, turn_gae, whiten
from rlvr.recipe.critic import CriticConfig
from rlvr.records import Rollout


@dataclass(frozen=True, slots=True)
class Estimate:
    """One rollout's advantage per sampled token, and what its tokens are trained with beside it.

    `columns` hold `returns` and `values` where the critic learns from the rollout.
    """

    advantages: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


def estimates(
    rollouts: Sequence[Rollout],
    values: Sequence[np.ndarray],
    penalties: Sequence[np.ndarray],
    config: CriticConfig,
    tokenizer: Any,
    counted: Sequence[bool],
) -> list[Estimate]:
    """`values` and `penalties` (off the rewards) per sampled token; `counted` rollouts are what whitening is over.

    Rewards stand at the token at which they are known. The whole of the reward stands at the last one, but for a
    rollout that is bootstrapped where it was cut: it has none yet. Tokens that earlier steps have trained are in no
    statistic of the whitening.
    """
    lengths = [rollout.num_sampled_tokens for rollout in rollouts]
    cut = torch.tensor([r.open or (r.truncated and config.truncated == "bootstrap") for r in rollouts])
    known = [_rewards(r, bool(c), config, tokenizer) for r, c in zip(rollouts, cut, strict=True)]
    rewards = _padded(known) - _padded([torch.from_numpy(np.asarray(p, dtype=np.float64)) for p in penalties])
    told = _padded([torch.from_numpy(np.asarray(v, dtype=np.float64)) for v in values])
    mask = torch.arange(told.shape[1]) < torch.tensor(lengths)[:, None]
    judged = told.clone()
    if config.whiten_values:
        judged[mask] = whiten(told[mask])
    last = torch.where(cut, final_values(judged, mask), 0.0)
    lam = _policy_lambda(lengths, config)

    def advantages_of(lam: Tensor) -> Tensor:
        if config.turn_gamma is None:
            return gae(rewards, judged, mask, config.gamma, lam, last)
        return _by_turns(rollouts, rewards, judged, lengths, lam, last, config)

    advantages = advantages_of(lam)
    target = lam if config.critic_lambda is None else torch.full_like(lam, config.critic_lambda)
    returns = (advantages if config.critic_lambda is None else advantages_of(target)) + judged
    if config.estimate == "action_value":
        advantages = judged.clone()
    if config.whiten:
        first = torch.tensor([rollout.trained_tokens for rollout in rollouts])[:, None]
        trained = mask & torch.tensor(list(counted))[:, None] & (torch.arange(mask.shape[1]) >= first)
        advantages[mask] = whiten(advantages[mask], trained[mask])
    return [
        Estimate(
            advantages[i, :length].float().numpy(),
            {} if cut[i] else {"returns": returns[i, :length].float().numpy(), "values": np.asarray(values[i])},
        )
        for i, length in enumerate(lengths)
    ]


def _rewards(rollout: Rollout, cut: bool, config: CriticConfig, tokenizer: Any) -> Tensor:
    if rollout.open:
        return torch.zeros(rollout.num_sampled_tokens, dtype=torch.float64)
    worth = worth_of(rollout, tokenizer)
    if not config.rewards:
        return torch.zeros(worth.num_tokens, dtype=torch.float64)
    credits = token_credits(worth, "reward_to_go")
    if cut and len(credits):
        credits[-1] -= worth.whole
    return credits


def _policy_lambda(lengths: Sequence[int], config: CriticConfig) -> Tensor:
    if config.length_adaptive is not None:
        return length_adaptive_lambda(torch.tensor(lengths, dtype=torch.float64), config.length_adaptive)
    return torch.full((len(lengths),), config.policy_lambda, dtype=torch.float64)


def _by_turns(
    rollouts: Sequence[Rollout],
    rewards: Tensor,
    values: Tensor,
    lengths: Sequence[int],
    lam: Tensor,
    last: Tensor,
    config: CriticConfig,
) -> Tensor:
    assert config.turn_gamma is not None
    advantages = torch.zeros_like(values)
    for i, (rollout, length) in enumerate(zip(rollouts, lengths, strict=True)):
        ends = sorted({end - 1 for start, end in turn_spans(rollout) if end > start} | {length - 1} if length else ())
        own = (rewards[i, :length], values[i, :length], ends, config.turn_gamma, config.gamma)
        advantages[i, :length] = turn_gae(*own, float(lam[i]), float(last[i]))
    return advantages


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
