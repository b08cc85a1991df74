"""The loss of one micro-batch, and what is measured beside it.

Legend: M = loss tokens of the micro-batch. Losses are weighted sums: the weights already hold the denominator of the
whole mini-batch, so micro-batches and ranks only add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr.learner.batch import MicroBatch
from rlvr.objectives.aggregation import weighted_sum
from rlvr.objectives.kl import ESTIMATORS
from rlvr.objectives.mismatch import logprob_difference, ratio_statistics
from rlvr.objectives.policy_loss import clip_fractions, clip_loss
from rlvr.recipe.schema import ObjectiveConfig

# name -> (sum, count); the sum stays on the device until the step is over. A count of 0 adds to another rank's count.
TensorMetrics = dict[str, tuple[Tensor, float]]


def rl_loss(
    batch: MicroBatch, logprobs: Tensor, entropies: Tensor, objective: ObjectiveConfig
) -> tuple[Tensor, TensorMetrics]:
    """Policy loss plus beta times KL, summed with the tokens' weights; gradient flows through `logprobs` [M] only.

    Without `batch.old_logprobs` the batch is on-policy: the old logprobs are these very ones, without gradient.
    """
    old_logprobs = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
    log_ratio = logprobs - old_logprobs
    clip = objective.policy_loss
    token_losses = clip_loss(log_ratio, batch.advantages, clip.clip_low, clip.clip_high, clip.dual_clip)
    loss = weighted_sum(token_losses, batch.weights)
    metrics: TensorMetrics = {"policy_loss": (loss.detach(), 0.0)}
    if objective.kl.coefficient > 0 and objective.kl.placement == "loss":
        assert batch.ref_logprobs is not None, "a KL term needs the reference's logprobs"
        kl = ESTIMATORS[objective.kl.estimator](logprobs, batch.ref_logprobs)
        loss = loss + objective.kl.coefficient * weighted_sum(kl, batch.weights)
        metrics |= _token_mean(batch, kl=kl)
    low, high = clip_fractions(log_ratio, batch.advantages, clip.clip_low, clip.clip_high, clip.dual_clip)
    metrics |= _token_mean(batch, entropy=entropies, clip_low_fraction=low, clip_high_fraction=high)
    metrics["loss"] = (loss.detach(), 0.0)
    if batch.num_loss_tokens:
        ratios = ratio_statistics(log_ratio, torch.ones_like(log_ratio, dtype=torch.bool))
        metrics["ratio_max"] = (ratios.maximum, 1.0)
    return loss, metrics


def sft_loss(batch: MicroBatch, logprobs: Tensor, entropies: Tensor) -> tuple[Tensor, TensorMetrics]:
    """Negative log-likelihood, summed with the tokens' weights."""
    loss = weighted_sum(-logprobs, batch.weights)
    return loss, {"loss": (loss.detach(), 0.0)} | _token_mean(batch, entropy=entropies)


def mismatch_metrics(batch: MicroBatch, logprobs: Tensor) -> TensorMetrics:
    """|trainer - engine| per loss token (nats), before any step on the batch; nothing for a dummy."""
    if not batch.num_loss_tokens:
        return {}
    mask = torch.ones_like(logprobs, dtype=torch.bool)
    difference = logprob_difference(logprobs, batch.behavior_logprobs, mask)
    return {
        "logprob_difference": (difference.absolute_sum, float(batch.num_loss_tokens)),
        "logprob_difference_max": (difference.absolute_max, 1.0),
    }


def _token_mean(batch: MicroBatch, **values: Tensor) -> TensorMetrics:
    if not batch.num_loss_tokens:
        return {}
    return {name: (value.detach().double().sum(), float(batch.num_loss_tokens)) for name, value in values.items()}
