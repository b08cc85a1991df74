"""Preference, regression and ranking objectives as losses of whole groups, with the reduction of each.

Shapes as in `rlvr.objectives.group_losses`: `sums` [N] are a rollout's log ratios to its anchor (or its logprobs, where
the anchor is none), summed; every function answers with a scalar whose gradient flows through `sums`. A mini-batch in
which nothing can be compared gives 0. The parameters are attributes of `config`: sections of
`rlvr.recipe.preference_losses`.

Terms in log pi(y) itself (the imitation of winners, Nash-MD, XPO's bonus) read log pi - log anchor here. Their gradient
is the same, as the anchor has none; their value differs by a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlvr.objectives import preference as p
from rlvr.objectives.ranking import best_in_group, rrhf_loss, rrtf_loss
from rlvr.objectives.regression import a_star_po_loss, optimal_values

Facts = Mapping[str, Tensor]


def dpo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over pairs of the DPO loss (online DPO, 2402.04792, where the pairs are the policy's own)."""
    pairs = p.in_group_pairs(rewards, groups, config.pairs)
    return _mean(p.dpo_loss(sums, pairs, config.beta, config.label_smoothing), sums)


def ipo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over pairs of the IPO loss, on means per token where config.per_token says so."""
    values = sums / lengths.clamp(min=1) if config.per_token else sums
    return _mean(p.ipo_loss(values, p.in_group_pairs(rewards, groups, config.pairs), config.tau), sums)


def xpo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean DPO loss plus alpha times the mean over groups of E_ref[log pi(y')]; XPO (2405.21046)."""
    pairs = p.in_group_pairs(rewards, groups, config.pairs)
    bonus = p.xpo_bonus(sums, p.geometric_importance(sums, groups, 1.0)) / _num_groups(groups)
    return _mean(p.dpo_loss(sums, pairs, config.beta), sums) + config.alpha * bonus


def dno(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over DNO's pairs of the DPO loss against the policy that sampled, plus alpha times the winners' NLL."""
    pairs = p.dno_pairs(rewards, groups, min_positive=config.min_positive, margin=config.margin)
    losses = p.dpo_loss(sums, pairs, config.beta) - config.alpha * sums[pairs.winners]
    return _mean(losses, sums)


def nash_md(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over rollouts of the Nash-MD loss; the others of the group, reweighted to the mixture, are the opponent."""
    weights = p.geometric_importance(sums, groups, config.mixture)
    rates = p.win_rates(p.preferences(rewards, groups, config.preference_scale), weights, groups)
    return _mean(p.nash_md_loss(sums, sums, rates, config.tau), sums)


def sppo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over the chosen rollouts of the SPPO loss; win rates against the others of the group."""
    even = torch.ones_like(rewards)
    rates = p.win_rates(p.preferences(rewards, groups, config.preference_scale), even, groups)
    chosen = _chosen(rewards, groups, config.rollouts)
    return _mean(p.sppo_loss(sums, rates, config.beta)[chosen], sums)


def gpo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over the chosen rollouts of the GPO loss, with the reward difference as the score of a preference.

    The mean score against the group is then r - group mean (the group itself counted, as in the paper's code).
    """
    same = (groups[:, None] == groups).to(rewards.dtype)
    scores = (same * (rewards[:, None] - rewards)).sum(1) / same.sum(1)
    return _mean(p.gpo_loss(sums, scores, config.beta)[_chosen(rewards, groups, config.rollouts)], sums)


def trpa(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over pairs of the TRPA loss (2504.04524); level k + 1 is a reward that misses k of config.levels."""
    bounds = torch.tensor(sorted(config.levels, reverse=True), dtype=rewards.dtype, device=rewards.device)
    levels = 1 + (rewards[:, None] < bounds).sum(1)
    return _mean(p.trpa_loss(sums / lengths.clamp(min=1), levels, groups, config.beta, config.top_factor), sums)


def adpo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over the groups whose rewards differ of the listwise cross entropy; ADPO (2510.18913)."""
    tau: float | Tensor = config.tau
    if config.adaptive is not None:
        own = config.adaptive
        factors = own.entropy, own.reward
        tau = p.adaptive_temperature(sums, rewards, groups, config.tau, factors, own.reward_range, (own.low, own.high))
    targets = p.listwise_targets(rewards, groups, config.target_temperature)
    num_groups = _num_groups(groups[targets > 0])
    return p.adpo_loss(sums, targets, groups, tau).sum() / max(1, num_groups)


def a_star_po(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over rollouts of the A*-PO loss; V* from the fact `value` where there is one, else from the group."""
    values = facts["value"] if "value" in facts else optimal_values(rewards, groups, config.value_beta)
    return _mean(a_star_po_loss(sums, rewards, values, config.beta), sums)


def rrhf(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over groups of RRHF's ranking loss plus config.imitation times the best one's NLL per token."""
    return _ranked(rrhf_loss, sums, lengths, rewards, groups, config.imitation)


def rrtf(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """Mean over groups of RRTF's ranking loss plus config.imitation times the best one's NLL per token."""
    return _ranked(rrtf_loss, sums, lengths, rewards, groups, config.imitation)


def mpo(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Facts) -> Tensor:
    """w_p DPO over pairs + w_q BCO over rollouts + w_g NLL of the winners per token; MPO (2411.10442).

    A rollout is positive where its reward is above its group's mean and negative below. BCO's delta, in the paper a
    running mean of implicit rewards, is the mean of this mini-batch, so that no state has to live on.
    """
    same = (groups[:, None] == groups).to(rewards.dtype)
    # Differences first: a mean of equal floats need not equal them.
    above = (same * (rewards[:, None] - rewards)).sum(1)
    decided = above != 0
    delta = config.beta * sums.detach()[decided].mean() if decided.any() else 0.0
    quality = p.bco_loss(sums, above > 0, delta, config.beta)[decided]
    winners = above > 0
    nll = -sums[winners].sum() / lengths[winners].sum().clamp(min=1)
    preference = _mean(p.dpo_loss(sums, p.in_group_pairs(rewards, groups, config.pairs), config.beta), sums)
    return config.preference * preference + config.quality * _mean(quality, sums) + config.generation * nll


def _ranked(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    sums: Tensor,
    lengths: Tensor,
    rewards: Tensor,
    groups: Tensor,
    imitation: float,
) -> Tensor:
    rates = sums / lengths.clamp(min=1)
    best = best_in_group(rewards, groups)
    return (loss(rates, rewards, groups).sum() - imitation * rates[best].sum()) / _num_groups(groups)


def _chosen(rewards: Tensor, groups: Tensor, rollouts: str) -> Tensor:
    """Which rollouts a regression fits: all of them, or the best and the worst of each group that has both; [N]."""
    chosen = torch.ones_like(rewards, dtype=torch.bool)
    if rollouts == "best_worst":
        chosen = torch.zeros_like(chosen)
        for indices in p.in_group_pairs(rewards, groups, "best_worst"):
            chosen[indices] = True
    return chosen


def _mean(losses: Tensor, sums: Tensor) -> Tensor:
    """The mean, or 0 that still hangs on `sums` where there is nothing to average."""
    return losses.mean() if len(losses) else sums.sum() * 0.0


def _num_groups(groups: Tensor) -> int:
    return max(1, len(groups.unique()))
