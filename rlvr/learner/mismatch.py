"""The corrections for what engine and trainer differ by, on packed micro-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlvr.learner.auxiliary import DEMONSTRATION, GUIDED
from rlvr.learner.batch import MicroBatch, sequence_index
from rlvr.learner.collectives import gathered
from rlvr.learner.imitation_losses import RELABELLED, REPLAYED
from rlvr.objectives.mismatch import mismatch_weight, weight_total
from rlvr.recipe.objective import MismatchCorrection


def normalises(corrections: Sequence[MismatchCorrection]) -> bool:
    """Whether a weight depends on those of the whole mini-batch."""
    return any(correction.normalise == "batch" for correction in corrections)


def sampled_elsewhere(batch: MicroBatch) -> Tensor | None:
    """[M]: where engine and trainer are not to agree, as one saw a hint, held earlier weights, or sampled nothing."""
    found = [batch.columns[name] > 0 for name in (GUIDED, DEMONSTRATION, REPLAYED, RELABELLED) if name in batch.columns]
    return torch.stack(found).any(0) if found else None


def set_mismatch_means(mini_batch: Sequence[MicroBatch], corrections: Sequence[MismatchCorrection]) -> None:
    """Fills `mismatch_means` of a rank's share of one mini-batch, from old logprobs. Collective where one normalises.

    A mean of 0 (every weight is masked) becomes 1: nothing is left to be scaled.
    """
    if not normalises(corrections):
        return
    totals = torch.zeros(len(corrections), 2, dtype=torch.float64, device=mini_batch[0].weights.device)
    for batch in mini_batch:
        if not batch.num_loss_tokens:
            continue
        assert batch.old_logprobs is not None, "the pre-pass has not filled this micro-batch"
        exempt = sampled_elsewhere(batch)
        counted = torch.ones_like(batch.weights, dtype=torch.bool) if exempt is None else ~exempt
        for number, correction in enumerate(corrections):
            weight, _ = _weight(batch, batch.old_logprobs, correction, exempt)
            index, count = sequence_index(batch), max(1, len(batch.rollouts))
            totals[number] += weight_total(weight, index, count, correction.level, counted)
    everyone = gathered(totals.flatten()).view(-1, *totals.shape).sum(0)
    means = everyone[:, 0] / everyone[:, 1].clamp(min=1)
    means = torch.where(means > 0, means, torch.ones_like(means))
    for batch in mini_batch:
        batch.mismatch_means = means.to(batch.weights.dtype)


def mismatch_scale(
    batch: MicroBatch, logprobs: Tensor, corrections: Sequence[MismatchCorrection]
) -> tuple[Tensor, Tensor]:
    """(product of the corrections' weights [M], bool [M]: changed by any of their bounds).

    logprobs: the trainer's before the first step on the batch. Tokens of which engine and trainer were meant to differ
    keep weight 1, and are left out of their rollout's ratio and of every mean.
    """
    exempt = sampled_elsewhere(batch)
    scale, changed = torch.ones_like(batch.weights), torch.zeros_like(batch.weights, dtype=torch.bool)
    for number, correction in enumerate(corrections):
        weight, bounded = _weight(batch, logprobs, correction, exempt)
        if correction.normalise == "batch":
            assert batch.mismatch_means is not None, "set_mismatch_means first"
            weight = weight / batch.mismatch_means[number]
        scale, changed = scale * weight, changed | bounded
    if exempt is not None:
        scale, changed = torch.where(exempt, torch.ones_like(scale), scale), changed & ~exempt
    return scale, changed


def _weight(
    batch: MicroBatch, logprobs: Tensor, correction: MismatchCorrection, exempt: Tensor | None
) -> tuple[Tensor, Tensor]:
    behavior = batch.behavior_logprobs
    if exempt is not None:
        behavior = torch.where(exempt, logprobs.detach(), behavior)
    options = correction.model_dump(exclude={"normalise"})
    return mismatch_weight(logprobs, behavior, sequence_index(batch), max(1, len(batch.rollouts)), **options)
