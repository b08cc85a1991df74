"""Imitation losses over a packed micro-batch: from its tokens and the recipe's section to losses per token.

Legend: M = loss tokens of the micro-batch. The functions are those of `rlvr.objectives.imitation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlvr.objectives import imitation as rules
from rlvr.objectives import replay
from rlvr.objectives.token_weights import TokenFacts

if TYPE_CHECKING:
    from rlvr.learner.policy_losses import PolicyTokens


REPLAYED, BEHAVIOR = "replayed", "replayed_behavior"
"""Columns of sequences that an earlier step sampled: 1 at their tokens, and the logprobs then (nats)."""

RELABELLED = "relabelled"
"""Column of sequences that were sampled under another prompt than they train under: 1 at their tokens."""


OUTCOME_WEIGHT = "outcome_weight"
"""Column of what a model of the outcome thinks a token counts."""


def imitation(tokens: PolicyTokens, config: Any) -> Tensor:
    """-w logprob, [M]."""
    weights = tokens.advantages if config.weight == "advantage" else torch.ones_like(tokens.advantages)
    return rules.positive_nll(tokens.logprobs, weights)


def iw_sft(tokens: PolicyTokens, config: Any) -> Tensor:
    """Imitation with the importance of the token or of its completion, [M]."""
    assert tokens.ref_logprobs is not None, "iw_sft needs the reference's logprobs"
    log_ratio = (tokens.logprobs - tokens.ref_logprobs).detach()
    if config.level == "token":
        return rules.iw_sft_loss(tokens.logprobs, rules.token_importance(log_ratio, config.temperature))
    sums, counts = _per_rollout(tokens, log_ratio), _per_rollout(tokens, torch.ones_like(log_ratio))
    importance = rules.completion_importance(sums / counts.clamp(min=1), config.temperature)
    return rules.iw_sft_loss(tokens.logprobs, importance[tokens.index])


def rlsc(tokens: PolicyTokens, config: Any) -> Tensor:
    """Imitation weighted by the probability that the completion had, [M]."""
    old = (tokens.logprobs - tokens.log_ratio).detach()
    return rules.rlsc_loss(tokens.logprobs, _per_rollout(tokens, old)[tokens.index], config.alpha)


def oreal(tokens: PolicyTokens, config: Any) -> Tensor:
    """OREAL with outcome-model weights from their column where there is one, [M].

    The policy gradient on wrong completions keeps the paper's on-policy form: its ratio is 1 at every step.
    """
    positive = (tokens.advantages > 0).to(tokens.advantages.dtype)
    advantages = tokens.advantages
    if config.clone == "one":
        advantages = torch.where(positive > 0, torch.ones_like(advantages), advantages)
    weights = tokens.columns.get(OUTCOME_WEIGHT, torch.ones_like(advantages))
    return rules.oreal_loss(tokens.logprobs, advantages, positive, weights, config.negative_scale)


def balanced_halves(facts: TokenFacts, config: Any) -> Tensor:
    """Token weight: what gives tokens of positive advantage and the others a denominator each, [M]."""
    positive = facts.advantages > 0
    masses = torch.stack([facts.weights[positive].double().sum(), facts.weights[~positive].double().sum()])
    everyone = facts.everyone(masses).view(-1, 2).sum(0)
    return rules.balanced_scale(positive.to(facts.weights.dtype), float(everyone[0]), float(everyone[1]))


def replay_importance(facts: TokenFacts, config: Any) -> Tensor:
    """Token weight: what replayed tokens count, [M]; 1 in a batch without any."""
    if BEHAVIOR not in facts.columns:
        return torch.ones_like(facts.weights)
    behavior, replayed = facts.columns[BEHAVIOR], facts.columns[REPLAYED] > 0
    return replay.importance_weights(facts.old_logprobs, behavior, replayed, config.cap).to(facts.weights.dtype)


def _per_rollout(tokens: PolicyTokens, values: Tensor) -> Tensor:
    return values.new_zeros(tokens.num_rollouts).index_add(0, tokens.index, values)
