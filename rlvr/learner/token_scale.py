"""The token weights of a recipe, worked out over a mini-batch before its optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlvr.learner import imitation_losses
from rlvr.learner.batch import MicroBatch
from rlvr.learner.collectives import gathered
from rlvr.learner.mismatch import set_mismatch_means
from rlvr.objectives import token_weights as rules
from rlvr.objectives.token_weights import TokenFacts
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.recipe.schedule import annealed

SPAN_WEIGHT = "span_weight"
"""Column that the driver fills for the token weight `span` (`rlvr.controller.span_weights`)."""

TOKEN_WEIGHTS: dict[str, Callable[[TokenFacts, Any], Tensor]] = {
    "balanced_halves": imitation_losses.balanced_halves,
    "entropy_forks": lambda facts, config: rules.entropy_forks(facts, config.share),
    "replay_importance": imitation_losses.replay_importance,
    "span": lambda facts, config: facts.columns.get(SPAN_WEIGHT, torch.full_like(facts.weights, config.outside)),
    "signal": lambda facts, config: rules.signal(facts, annealed(config.share, config.anneal, facts.stage_step)),
}
"""Name -> what each token's policy loss is multiplied with, from the facts of a mini-batch and the recipe's section."""


def set_token_scale(mini_batch: Sequence[MicroBatch], objective: ObjectiveConfig, stage_step: int = 0) -> None:
    """Fills `token_scale` and `mismatch_means` of a rank's share of one mini-batch, where the recipe has such weights.

    Collective there.
    """
    set_mismatch_means(mini_batch, objective.mismatch)
    if not objective.token_weights:
        return
    facts = facts_of(mini_batch, stage_step)
    scale = torch.ones_like(facts.weights)
    for config in objective.token_weights:
        scale = scale * TOKEN_WEIGHTS[config.name](facts, config)
    if objective.token_weight_denominator == "selected":
        scale = rules.selected_denominator(scale, facts.weights, facts.everyone)
    parts = iter(scale.split([batch.num_loss_tokens for batch in mini_batch if batch.num_loss_tokens]))
    for batch in mini_batch:
        batch.token_scale = next(parts) if batch.num_loss_tokens else torch.zeros_like(batch.weights)


def facts_of(mini_batch: Sequence[MicroBatch], stage_step: int = 0) -> TokenFacts:
    """The tokens of all micro-batches in a row; dummies have none."""
    real = [batch for batch in mini_batch if batch.num_loss_tokens]

    def row(of: Callable[[MicroBatch], Tensor | None]) -> Tensor:
        found = [values for batch in real if (values := of(batch)) is not None]
        assert len(found) == len(real), "the pre-pass has not filled these micro-batches"
        return torch.cat(found) if found else mini_batch[0].weights[:0]

    def numbers(batch: MicroBatch) -> Tensor:
        assert batch.index is not None
        return torch.as_tensor(batch.rollouts, device=batch.index.device)[batch.index]

    return TokenFacts(
        old_logprobs=row(lambda batch: batch.old_logprobs),
        entropies=row(lambda batch: batch.entropies),
        advantages=row(lambda batch: batch.advantages),
        weights=row(lambda batch: batch.weights),
        index=row(numbers).long(),
        columns={name: row(lambda batch, n=name: batch.columns[n]) for name in mini_batch[0].columns},  # type: ignore[misc]
        everyone=gathered,
        stage_step=stage_step,
    )
