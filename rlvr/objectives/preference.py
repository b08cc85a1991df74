"""Preference objectives over the completions of a prompt: who beats whom, and what a beaten completion costs.

Legend: N = completions of one mini-batch, P = ordered pairs (winner, loser) of the same group. `log_ratios` [N] are
sums over a completion's sampled tokens of logprobs - ref_logprobs (nats) and carry the gradient, unless a docstring
says otherwise; rewards, groups and preferences carry none. Losses are per pair [P] or per completion [N], to be
minimised and not reduced. A group whose rewards are all equal has no pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Pairs(NamedTuple):
    """Positions among the N completions, [P] each; completion winners[p] was worth more than losers[p]."""

    winners: Tensor
    losers: Tensor


def in_group_pairs(rewards: Tensor, groups: Tensor, selection: str = "all") -> Pairs:
    """Every pair of a group that differs in reward, or under `best_worst` its first best with its first worst.

    Online DPO (2402.04792) compares the two samples of a prompt; with more of them both choices generalise it.
    """
    better = (groups[:, None] == groups) & (rewards[:, None] > rewards)
    if selection == "best_worst":
        better &= _first_extreme(rewards, groups, -1.0)[:, None] & _first_extreme(rewards, groups, 1.0)
    else:
        assert selection == "all", selection
    return Pairs(*better.nonzero(as_tuple=True))


def dno_pairs(
    rewards: Tensor,
    groups: Tensor,
    given: Tensor | None = None,
    min_positive: float = 5.0,
    margin: float = 1.0,
    given_margin: float = 2.0,
) -> Pairs:
    """Pairs whose winner is good in itself, by a margin. DNO-Prct, Rosset et al. 2024 (2404.03715), section 4.

    A winner has a reward of at least `min_positive`; the loser lies `margin` below it, or `given_margin` where the
    winner was `given` [N] (bool) and not sampled. The defaults belong to the paper's scores from 1 to 6.
    """
    needed = torch.full_like(rewards, margin)
    if given is not None:
        needed = torch.where(given, torch.full_like(rewards, given_margin), needed)
    better = (groups[:, None] == groups) & (rewards[:, None] - rewards >= needed[:, None])
    better &= (rewards >= min_positive)[:, None] & (rewards[:, None] > rewards)
    return Pairs(*better.nonzero(as_tuple=True))


def dpo_loss(log_ratios: Tensor, pairs: Pairs, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta (D_w - D_l)) of each pair, [P]. Rafailov et al. 2023 (2305.18290), eq. 7.

    With label smoothing e, (1 - e) of it plus e of the loss of the turned pair (conservative DPO).
    """
    h = beta * (log_ratios[pairs.winners] - log_ratios[pairs.losers])
    return (1 - label_smoothing) * F.softplus(-h) + label_smoothing * F.softplus(h)


def ipo_loss(log_ratios: Tensor, pairs: Pairs, tau: float) -> Tensor:
    """((D_w - D_l) - 1 / (2 tau))^2 of each pair, [P]. Azar et al. 2023 (2310.12036), eq. 17.

    With sums D this is the paper's formula; the authors' experiments divide D by the completion's length, which is the
    caller's choice here.
    """
    return (log_ratios[pairs.winners] - log_ratios[pairs.losers] - 1 / (2 * tau)).square()


def xpo_bonus(logprobs: Tensor, importance: Tensor) -> Tensor:
    """sum over completions of importance * logprobs: E_ref[log pi(y')], a scalar. Xie et al. 2024 (2405.21046), alg. 1.

    XPO adds alpha times this to the DPO loss, and so pushes down what the reference would say. The paper draws y' from
    the reference; here the policy's own samples stand in, weighted by `geometric_importance(..., coefficient=1)`.
    """
    return (importance * logprobs).sum()


def geometric_importance(log_ratios: Tensor, groups: Tensor, coefficient: float) -> Tensor:
    """Self-normalised weights [N], summing to 1 in each group, that turn policy samples into those of a mixture.

    The mixture is pi^(1 - c) ref^c up to its constant, so a completion's weight is proportional to exp(-c D): 0 is the
    policy, 1 the reference. No gradient flows. Where D varies by many nats, one completion takes nearly all the weight.
    """
    scores = -coefficient * log_ratios.detach()
    same = groups[:, None] == groups
    return (scores - torch.where(same, scores, -torch.inf).logsumexp(1)).exp()


def preferences(rewards: Tensor, groups: Tensor, scale: float | None = None) -> Tensor:
    """P[i, j] = P(completion i is preferred to j), [N, N]; 1/2 at ties, against itself and across groups.

    Without a scale the larger reward wins for certain; with one, Bradley-Terry: sigmoid((r_i - r_j) / scale).
    """
    difference = rewards[:, None] - rewards
    certain = 0.5 * (1 + difference.sign())
    p = certain if scale is None else torch.sigmoid(difference / scale)
    return torch.where(groups[:, None] == groups, p, torch.full_like(p, 0.5))


def win_rates(preference: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """Each completion's chance to beat an opponent drawn from the OTHERS of its group with `weights` [N]; [N].

    A group of one meets nobody, and gets 1/2.
    """
    others = (groups[:, None] == groups) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    shares = torch.where(others, weights[None].expand_as(preference), torch.zeros_like(preference))
    totals = shares.sum(1)
    met = totals > 0
    rates = (shares * preference).sum(1) / torch.where(met, totals, torch.ones_like(totals))
    return torch.where(met, rates, torch.full_like(rates, 0.5))


def nash_md_loss(logprobs: Tensor, log_ratios: Tensor, win_rate: Tensor, tau: float) -> Tensor:
    """(tau D - (P(y > y') - 1/2)) log pi(y), [N]; gradient through `logprobs` [N] only.

    Munos et al. 2023 (2312.00886), section 7: the opponent y' comes from the geometric mixture of policy and reference.
    D is that of the whole completion, as in the paper; TRL multiplies each token's logprob with its own log ratio.
    """
    return (tau * log_ratios.detach() - (win_rate - 0.5)) * logprobs


def sppo_loss(log_ratios: Tensor, win_rate: Tensor, beta: float) -> Tensor:
    """(D - (P(y > pi) - 1/2) / beta)^2, [N]. Wu et al. 2024 (2405.00675), eq. 4.7, with beta = 1 / eta."""
    return (log_ratios - (win_rate - 0.5) / beta).square()


def gpo_loss(log_ratios: Tensor, scores: Tensor, beta: float) -> Tensor:
    """(D - s(y > pi) / beta)^2 / 2, [N]. General preference optimisation, 2410.02197, section 5.

    `scores` [N] are mean preference scores against the group, unbounded and 0 for a completion like all others. The
    loss file of the official code was not found: the form is that of the paper.
    """
    return 0.5 * (log_ratios - scores / beta).square()


def bco_loss(log_ratios: Tensor, positive: Tensor, delta: Tensor | float, beta: float) -> Tensor:
    """-log sigmoid(+-(beta D - delta)), plus for `positive` [N] (bool), minus else; [N]. 2404.04656.

    delta is the mean implicit reward beta D, without gradient: it keeps both halves about the same size.
    """
    h = beta * log_ratios - delta
    return F.softplus(torch.where(positive, -h, h))


def trpa_loss(rates: Tensor, levels: Tensor, groups: Tensor, beta: float = 0.1, top_factor: float = 2.5) -> Tensor:
    """-log sigmoid(beta (rho_i - rho_j)) of all pairs of a group with level_i < level_j; [P], or [N] without a pair.

    TRPA (2504.04524): rho are MEAN log ratios per token, level 1 is the best, and pairs that a level 1 wins count
    `top_factor` times inside the sigmoid. Where no group has a pair, every completion is compared with the reference:
    -log sigmoid(rho) at level 1, -log sigmoid(-rho) below. The paper's code takes "no pair" per micro-batch.
    """
    pairs = in_group_pairs(-levels.to(rates.dtype), groups)
    if not len(pairs.winners):
        return F.softplus(torch.where(levels == 1, -rates, rates))
    top = (levels[pairs.winners] == 1).to(rates.dtype)
    h = beta * (rates[pairs.winners] - rates[pairs.losers]) * (1 + (top_factor - 1) * top)
    return F.softplus(-h)


def adpo_loss(log_ratios: Tensor, targets: Tensor, groups: Tensor, tau: float | Tensor) -> Tensor:
    """-q log p of each completion, [N], with p = softmax of D / tau over its group; sums per group to a cross entropy.

    `tau` is one number, or [N] with one per group. ADPO (2510.18913): D is against an anchor, by default the policy
    that sampled. `targets` [N] are `listwise_targets`.
    """
    scores = log_ratios / tau
    same = groups[:, None] == groups
    log_p = scores - torch.where(same, scores, -torch.inf).logsumexp(1)
    return -targets * log_p


def adaptive_temperature(
    log_ratios: Tensor,
    rewards: Tensor,
    groups: Tensor,
    tau: float,
    factors: tuple[float, float],
    reward_range: tuple[float, float],
    bounds: tuple[float, float],
) -> Tensor:
    """tau (1 + a H + b (1 - H)(1 - R)) of each completion's group, within `bounds`; [N], without gradient.

    ADPO (2510.18913), from its code: warm while the group's softmax is flat, and where it is sharp over bad
    completions. H is the entropy of softmax(D / tau) over log(group size), 0 for a group of one; R the mean reward of
    the group, `reward_range` mapped to [0, 1]. What H and R are taken of is our reading.
    """
    same = groups[:, None] == groups
    scores = log_ratios.detach() / tau
    log_p = torch.where(same, scores, -torch.inf).log_softmax(1)
    entropy = -torch.where(same, log_p.exp() * log_p, torch.zeros_like(log_p)).nan_to_num(0.0).sum(1)
    sizes = same.sum(1).to(scores.dtype)
    flatness = torch.where(sizes > 1, entropy / sizes.clamp(min=2).log(), torch.zeros_like(entropy)).clamp(0, 1)
    low, high = reward_range
    mean = (same * rewards).sum(1) / sizes
    merit = ((mean - low) / (high - low)).clamp(0, 1)
    return (tau * (1 + factors[0] * flatness + factors[1] * (1 - flatness) * (1 - merit))).clamp(*bounds)


def listwise_targets(rewards: Tensor, groups: Tensor, temperature: float = 0.5) -> Tensor:
    """q = softmax of the z-scored rewards / temperature over each group; [N], 0 where a group's rewards are all equal.

    Z-scores have the sample standard deviation. ADPO (2510.18913) leaves out prompts that all failed; leaving out every
    group without a difference keeps its gradient exactly 0, as in all objectives here.
    """
    from rlvr.objectives.advantages import grpo

    scores = grpo(rewards.double(), groups)
    differs = torch.zeros_like(scores, dtype=torch.bool)
    for winners_or_losers in in_group_pairs(rewards, groups):
        differs[winners_or_losers] = True
    same = groups[:, None] == groups
    has = (same & differs).any(1)
    logits = scores / temperature
    q = (logits - torch.where(same, logits, -torch.inf).logsumexp(1)).exp()
    return torch.where(has, q, torch.zeros_like(q)).to(rewards.dtype)


def _first_extreme(rewards: Tensor, groups: Tensor, sign: float) -> Tensor:
    """True at the first completion of each group whose sign * reward is the smallest there; [N] bool."""
    values = sign * rewards
    same = groups[:, None] == groups
    before = torch.ones_like(same).tril(-1)
    beaten = same & ((values < values[:, None]) | ((values == values[:, None]) & before))
    return ~beaten.any(1)
