"""From scored rollouts to the advantages of their sampled tokens, as the credit section of a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlvr.controller.advantages import advantage_of_tokens
from rlvr.controller.token_spans import TokenSpans, token_spans, tokens_of
from rlvr.errors import RlvrError
from rlvr.learner.batch import TrainSequence
from rlvr.metrics import Metrics
from rlvr.objectives import credit as rules
from rlvr.objectives.credit import NotAffine, Part, Worth
from rlvr.objectives.facts import Advantage
from rlvr.recipe.schema import AnchorConfig, CreditConfig, ObjectiveConfig
from rlvr.records import Abstain, Rollout, Score, Share, Steps


def is_plain(config: CreditConfig) -> bool:
    """Whether every token gets the advantage of its rollout: then no token has to be looked at."""
    return config.placement == "uniform" and config.normalise == "total"


def is_anchored(rollout: Rollout, anchor: AnchorConfig | None) -> bool:
    """Whether a rollout has what `placement: anchored` reads; True where nothing is asked for."""
    if anchor is None:
        return True
    judged = rollout.outcomes.get(anchor.steps)
    return isinstance(rollout.outcomes.get(anchor.outcome), Score) and isinstance(judged, Steps | Abstain)


def credits_of(rollout: Rollout, config: CreditConfig, tokenizer: Any) -> Tensor:
    """What each sampled token contributed to the reward; [T], with sum = `Rollout.reward`."""
    return rules.token_credits(worth_of(rollout, tokenizer), config.placement)


def worth_of(rollout: Rollout, tokenizer: Any) -> Worth:
    """The reward and its shares, with spans as positions among the sampled tokens."""
    assert rollout.reward is not None, rollout.prompt.id
    length = rollout.num_sampled_tokens
    shares = rollout.shares or [Share("", (rollout.reward,))]
    spans = _characters(shares, rollout, tokenizer) if length else None
    whole: dict[str, float] = {}
    parts = []
    for share in shares:
        if share.spans is None or not length:
            whole[share.term] = whole.get(share.term, 0.0) + share.total
        else:
            parts.append(Part(share.term, share.values, *tokens_of(share, length, spans)))
    return Worth(length, rollout.reward, (*(Part(term, (value,)) for term, value in whole.items()), *parts))


def _characters(shares: Sequence[Share], rollout: Rollout, tokenizer: Any) -> TokenSpans | None:
    needed = any(share.spans and share.unit == "character" for share in shares)
    return token_spans(rollout, tokenizer) if needed else None


def token_advantages(
    rollouts: Sequence[Rollout],
    rewards: Tensor,
    penalties: Sequence[float | np.ndarray],
    groups: Tensor,
    objective: ObjectiveConfig,
    tokenizer: Any,
    advantage: Advantage,
) -> list[np.ndarray]:
    """The advantage of every sampled token of every rollout; rewards and groups [N] -> N arrays [T_i] in float32.

    `rewards` are those of the rollouts less `penalties` (KL in the reward), which spread evenly over the tokens or,
    under reward_to_go, join at the last one; where there is one per token, a token pays for its own and for what
    follows. `advantage` is that of whole rollouts. RlvrError if normalise=total meets an advantage that is not affine.
    """
    config = objective.credit
    worths = [worth_of(rollout, tokenizer) for rollout in rollouts]
    if config.normalise == "component":
        by_token = rules.component_advantages(
            worths,
            groups,
            advantage_of_tokens(objective),
            config.placement,
            config.weights,
            config.discount,
            config.discount_per,
        )
    else:
        levels = [
            _levels(rollout, worth, penalty, config, tokenizer)
            for rollout, worth, penalty in zip(rollouts, worths, penalties, strict=True)
        ]
        if config.normalise == "token":
            by_token = rules.token_advantages(levels, groups, advantage_of_tokens(objective))
        else:
            by_token = _affine(levels, rewards, groups, objective, advantage(rewards, groups))
    return [row.to(torch.float32).numpy() for row in by_token]


def _affine(
    levels: list[Tensor], rewards: Tensor, groups: Tensor, objective: ObjectiveConfig, advantages: Tensor
) -> list[Tensor]:
    try:
        return rules.affine_advantages(levels, rewards, advantages, groups)
    except NotAffine as error:
        raise RlvrError(
            f"objective.credit.normalise=total: advantage {objective.advantage!r} is not affine in the rewards of a "
            f"group ({error}), so it says nothing about single tokens; set normalise: component or token, or choose "
            "another advantage"
        ) from error


def _levels(
    rollout: Rollout, worth: Worth, penalty: float | np.ndarray, config: CreditConfig, tokenizer: Any
) -> Tensor:
    if isinstance(penalty, np.ndarray):
        # The price of what follows a token, itself included: the first token pays for all, as its rollout does.
        ahead = torch.from_numpy(penalty[::-1].cumsum()[::-1].copy())
        return _levels(rollout, worth, 0.0, config, tokenizer) - ahead
    if config.placement == "reward_to_go":
        return rules.reward_to_go(worth, config.discount, config.discount_per, penalty)
    if config.placement == "span":
        return rules.span_levels(worth) - penalty
    if config.placement == "anchored":
        assert config.anchor is not None
        return _anchored_levels(rollout, worth.num_tokens, config.anchor, tokenizer) - penalty
    return torch.full((worth.num_tokens,), worth.reward - penalty, dtype=torch.float64)


def _anchored_levels(rollout: Rollout, length: int, anchor: AnchorConfig, tokenizer: Any) -> Tensor:
    outcome, judged = rollout.outcomes[anchor.outcome], rollout.outcomes[anchor.steps]
    assert isinstance(outcome, Score), outcome
    wrong = torch.zeros(length, dtype=torch.bool)
    if isinstance(judged, Steps) and length:
        flagged = [i for i, value in enumerate(judged.values) if value < anchor.threshold]
        spans = tuple(judged.spans[i] for i in flagged)
        share = Share(anchor.steps, tuple(judged.values[i] for i in flagged), spans, judged.unit)
        tokens, _ = tokens_of(share, length, _characters([share], rollout, tokenizer))
        for positions in tokens:
            wrong[positions] = True
    return rules.anchored_levels(outcome.value, wrong, anchor.whole, anchor.process)


def credit_metrics(sequences: Sequence[TrainSequence]) -> Metrics:
    """`credit/within_rollout`: the part of the squared advantages that lies within rollouts; 0 for uniform credit."""
    by_rollout: dict[int, list[np.ndarray]] = {}
    for sequence in sequences:
        by_rollout.setdefault(sequence.rollout, []).append(sequence.advantage[sequence.loss_mask].astype(np.float64))
    within = every = 0.0
    for parts in by_rollout.values():
        values = np.concatenate(parts)
        if len(values):
            within += float(((values - values.mean()) ** 2).sum())
            every += float((values**2).sum())
    return {"credit/within_rollout": (within, every)} if every else {}
