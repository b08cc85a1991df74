"""Objectives that imitate the policy's own completions: which of them, and how much.

Legend: M = loss tokens of a micro-batch, N = completions. `logprobs` [M] carry the gradient; weights, rewards and
`sequence` (the number of the completion that a token belongs to, [M]) carry none. Losses are per token, not reduced.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_IMPORTANCE = 16.0  # iw-SFT's clamp of the completion's weight, in its code
MIN_RATE, MAX_RATE = 0.2, 1.8  # and of a token's, per-token variant


def positive_nll(logprobs: Tensor, positive: Tensor) -> Tensor:
    """-logprob where `positive` [M] is 1, else 0: expert iteration, and the imitation half of many others.

    Expert iteration and STaR (2203.14465) imitate the completions that are correct. `positive` may be any weight.
    """
    return -positive * logprobs


def iw_sft_loss(logprobs: Tensor, importance: Tensor) -> Tensor:
    """-w logprob, [M]; `importance` [M] without gradient. iw-SFT (2507.12856)."""
    return -importance.detach() * logprobs


def completion_importance(log_ratio_means: Tensor, temperature: float = 1.0) -> Tensor:
    """clamp(exp(temperature * mean_t(logprobs - ref_logprobs)), 0, 16) of each completion, [N] -> [N].

    iw-SFT (2507.12856), from its code: temperature 1 in its scripts, 2 the default of its function.
    """
    return (temperature * log_ratio_means.detach()).exp().clamp(max=MAX_IMPORTANCE)


def token_importance(log_ratio: Tensor, temperature: float = 1.0) -> Tensor:
    """clamp(exp(temperature * (logprobs - ref_logprobs)), 0.2, 1.8), [M] -> [M]: iw-SFT's per-token variant."""
    return (temperature * log_ratio.detach()).exp().clamp(MIN_RATE, MAX_RATE)


def rlsc_loss(logprobs: Tensor, old_logprob_sums: Tensor, alpha: float = 0.1) -> Tensor:
    """-(p_old(y) + alpha) log p(y), with log p(y) token by token; [M], sums over the tokens of y at each token [M].

    Reinforcement learning via self-confidence (2506.06395), eq. 9: no reward at all. p_old of a long completion is 0
    in any float, so that what remains is alpha times the NLL of the policy's own samples.
    """
    return -(old_logprob_sums.detach().exp() + alpha) * logprobs


def oreal_loss(
    logprobs: Tensor, advantages: Tensor, positive: Tensor, token_weights: Tensor, negative_scale: float = 0.5
) -> Tensor:
    """w+ A NLL on correct completions and -0.5 w- A exp(logp - sg(logp)) on wrong ones; [M] each -> [M].

    OREAL (2502.06781), section 3: behaviour cloning of positives, a policy gradient on negatives whose rewards are
    reshaped. `positive` is 1 at the tokens of correct completions; `token_weights` are w+ there and w- elsewhere (1
    without an outcome model; `rlvr.objectives.reward_model.token_weights_of_outcome_model`). A correct completion's A
    may be 1 (plain cloning). The two halves have denominators of their own: see `balanced_scale`.
    """
    cloned = -token_weights * advantages * logprobs
    pushed = -negative_scale * token_weights * advantages * (logprobs - logprobs.detach()).exp()
    return torch.where(positive > 0, cloned, pushed)


def balanced_scale(positive: Tensor, positive_mass: float, negative_mass: float) -> Tensor:
    """What token weights are multiplied with so that each half has its own denominator; [M] -> [M].

    The masses are the sums of the weights of the tokens of correct completions (P) and of the others (N), over all
    ranks: (P + N) / P at the former and (P + N) / N at the latter, so that each half weighs what both weighed together.
    """
    total = positive_mass + negative_mass
    of_positive = total / positive_mass if positive_mass else 0.0
    of_negative = total / negative_mass if negative_mass else 0.0
    return torch.where(positive > 0, of_positive, torch.full_like(positive, of_negative))
