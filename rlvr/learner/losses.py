"""The loss of one micro-batch, and what is measured beside it.

Legend: M = loss tokens of the micro-batch. Losses are weighted sums: the weights already hold the denominator of the
whole mini-batch, so micro-batches and ranks only add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr.learner.auxiliary import AUXILIARY, DEMONSTRATION, GUIDED, coefficient, own
from rlvr.learner.batch import MicroBatch, sequence_index
from rlvr.learner.diagnostics import SQUARE, gradient_squares
from rlvr.learner.kl_term import kl_values
from rlvr.learner.linearised import linear_form
from rlvr.learner.mismatch import mismatch_scale, sampled_elsewhere
from rlvr.learner.policy_losses import POLICY_LOSSES, PolicyTokens
from rlvr.objectives.aggregation import weighted_sum
from rlvr.objectives.gae import value_loss
from rlvr.objectives.mismatch import logprob_difference, ratio_statistics
from rlvr.objectives.policy_loss import MAX_LOG_RATIO
from rlvr.recipe.objective import ObjectiveConfig

# name -> (sum, count); the sum stays on the device until the step is over. A count of 0 adds to another rank's count.
TensorMetrics = dict[str, tuple[Tensor, float]]


def rl_loss(
    batch: MicroBatch, logprobs: Tensor, entropies: Tensor, objective: ObjectiveConfig, stage_step: int = 0
) -> tuple[Tensor, TensorMetrics]:
    """Policy loss plus beta times KL plus auxiliary terms, summed with the tokens' weights; logprobs, entropies [M].

    Without `batch.old_logprobs` the batch is on-policy: the old logprobs are these very ones, without gradient.
    """
    # The gradient of a single term is asked for below, and on its way to the engine's own outputs it would set off
    # DeepSpeed's reduction, which only the backward pass of the whole loss may: these views end before them.
    logprobs, entropies = logprobs.view_as(logprobs), entropies.view_as(entropies)
    old_logprobs = old_logprobs_of(batch, logprobs, objective)
    log_ratio = logprobs - old_logprobs
    # Demonstrations have a part in the denominator and in their own term, and in nothing else.
    sampled_weights = batch.weights * own(batch)
    metrics: TensorMetrics = {}
    if batch.coefficients is not None:
        # Its value is that of a linear form; the worker adds the constant that makes it the loss of the groups.
        loss = linear_form(batch, logprobs)
    else:
        tokens = PolicyTokens(
            logprobs,
            log_ratio,
            batch.advantages,
            sequence_index(batch),
            max(1, len(batch.rollouts)),
            batch.columns,
            batch.ref_logprobs,
        )
        values = POLICY_LOSSES[objective.policy_loss.name](tokens, objective.policy_loss)
        weights = sampled_weights if batch.token_scale is None else sampled_weights * batch.token_scale
        if objective.mismatch:
            start = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
            scale, changed = mismatch_scale(batch, start, objective.mismatch)
            weights = weights * scale
            metrics |= _token_mean(batch, mismatch_weight=scale, mismatch_bounded_fraction=changed)
        loss = weighted_sum(values.losses, weights)
        metrics |= _token_mean(batch, clip_low_fraction=values.clipped_low, clip_high_fraction=values.clipped_high)
    metrics["policy_loss"] = (loss.detach(), 0.0)
    terms = {"policy": loss}
    if objective.kl.coefficient > 0 and objective.kl.placement == "loss":
        kl = kl_values(batch, logprobs, objective.kl)
        terms["kl"] = objective.kl.coefficient * weighted_sum(kl, sampled_weights)
        metrics |= _token_mean(batch, kl=kl)
    for term in objective.auxiliary:
        value = weighted_sum(AUXILIARY[term.name](batch, logprobs, entropies, term), batch.weights)
        terms[term.name] = terms.get(term.name, 0.0) + coefficient(term, stage_step) * value
        metrics[f"auxiliary/{term.name}"] = (value.detach(), 0.0)
    loss = sum(list(terms.values())[1:], loss)
    for name, square in gradient_squares(terms, logprobs, entropies).items():
        metrics[SQUARE + name] = (square, 0.0)
    drift = log_ratio.detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    metrics |= _token_mean(batch, entropy=entropies, update_kl_k1=-drift, update_kl_k3=drift.expm1() - drift)
    if batch.token_scale is not None:
        metrics |= _token_mean(batch, token_scale=batch.token_scale, token_scale_zero=batch.token_scale == 0)
    metrics["loss"] = (loss.detach(), 0.0)
    if batch.num_loss_tokens:
        ratios = ratio_statistics(log_ratio, torch.ones_like(log_ratio, dtype=torch.bool))
        metrics["ratio_max"] = (ratios.maximum, 1.0)
    return loss, metrics


def old_logprobs_of(batch: MicroBatch, logprobs: Tensor, objective: ObjectiveConfig) -> Tensor:
    """What stands below the ratio, [M]; the current logprobs, without gradient, where the batch is on-policy."""
    old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
    if objective.old_policy == "engine":
        old = batch.behavior_logprobs
    if GUIDED in batch.columns:
        # Sampled with a hint in sight: the ratio is taken against the policy that saw it (2506.13923).
        old = torch.where(batch.columns[GUIDED] > 0, batch.behavior_logprobs, old)
    if DEMONSTRATION in batch.columns:
        old = torch.where(batch.columns[DEMONSTRATION] > 0, logprobs.detach(), old)
    return old


def sft_loss(batch: MicroBatch, logprobs: Tensor, entropies: Tensor) -> tuple[Tensor, TensorMetrics]:
    """Negative log-likelihood, summed with the tokens' weights."""
    loss = weighted_sum(-logprobs, batch.weights)
    return loss, {"loss": (loss.detach(), 0.0)} | _token_mean(batch, entropy=entropies)


def critic_loss(batch: MicroBatch, values: Tensor, clip: float | None) -> tuple[Tensor, TensorMetrics]:
    """Regression on the column `returns`, summed with the tokens' weights; clipped around the column `values`."""
    returns, old_values = batch.columns["returns"], batch.columns["values"]
    loss = weighted_sum(value_loss(values, returns, old_values, clip), batch.weights)
    metrics: TensorMetrics = {"loss": (loss.detach(), 0.0)}
    if clip is not None:
        metrics |= _token_mean(batch, value_clip_fraction=((values - old_values).abs() > clip).float())
    return loss, metrics


def mismatch_metrics(batch: MicroBatch, logprobs: Tensor) -> TensorMetrics:
    """|trainer - engine| per loss token (nats), before any step on the batch; nothing for a dummy."""
    if not batch.num_loss_tokens:
        return {}
    elsewhere = sampled_elsewhere(batch)
    mask = torch.ones_like(logprobs, dtype=torch.bool) if elsewhere is None else ~elsewhere
    count = batch.num_loss_tokens if elsewhere is None else int(mask.sum())
    if not count:
        return {}
    difference = logprob_difference(logprobs, batch.behavior_logprobs, mask)
    drift = (logprobs.detach() - batch.behavior_logprobs)[mask].double().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return {
        "engine_kl_k1": (-difference.signed_sum, float(count)),
        "engine_kl_k3": ((drift.expm1() - drift).sum(), float(count)),
        "logprob_difference": (difference.absolute_sum, float(count)),
        "logprob_difference_max": (difference.absolute_max, 1.0),
    }


def _token_mean(batch: MicroBatch, **values: Tensor) -> TensorMetrics:
    count = batch.num_loss_tokens
    if DEMONSTRATION in batch.columns and count:
        sampled = batch.columns[DEMONSTRATION] == 0
        values, count = {name: value[sampled] for name, value in values.items()}, int(sampled.sum())
    if not count:
        return {}
    return {name: (value.detach().double().sum(), float(count)) for name, value in values.items()}
