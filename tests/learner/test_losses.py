"""The loss of a micro-batch: its parts add up, and what a recipe does not ask for changes no bit."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from learner_reference import make_sequences

from rlvr.learner.batch import MicroBatch, collate, make_shard
from rlvr.learner.imitation_losses import REPLAYED
from rlvr.learner.losses import rl_loss
from rlvr.learner.mismatch import mismatch_scale, set_mismatch_means
from rlvr.learner.policy_losses import POLICY_LOSSES
from rlvr.learner.prepass import needs_old_logprobs
from rlvr.objectives.aggregation import weighted_sum
from rlvr.objectives.kl import k3
from rlvr.objectives.policy_loss import clip_loss
from rlvr.recipe.kl import KlConfig
from rlvr.recipe.objective import EntropyForks, MismatchCorrection, ObjectiveConfig
from rlvr.recipe.policy_losses import TOKEN_POLICY_LOSSES, ClipLoss, KlCovLoss


def name_of(section: type) -> str:
    return get_args(section.model_fields["name"].annotation)[0]


def micro_batch(rows: list[int] | None = None) -> MicroBatch:
    sequences = make_sequences(0)
    weights = [0.003 * (1 + i) for i in range(len(sequences))]
    shard = make_shard(sequences, weights, [[list(range(len(sequences)))]])
    batch = collate(shard, list(range(len(sequences))) if rows is None else rows, "cpu")
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, (2, len(batch.weights)))).float()
    batch.old_logprobs = batch.behavior_logprobs + noise[0]
    batch.ref_logprobs = batch.behavior_logprobs + noise[1]
    batch.columns["covariance_selected"] = (batch.behavior_logprobs > -3.6).float()
    return batch


def test_clip_and_kl_bit_for_bit():
    batch, objective = micro_batch(), ObjectiveConfig(policy_loss=ClipLoss(dual_clip=3.0), kl=KlConfig(coefficient=0.1))
    ours, plain = (batch.behavior_logprobs.clone().requires_grad_() for _ in range(2))
    loss, metrics = rl_loss(batch, ours, torch.ones_like(ours), objective)
    policy = weighted_sum(clip_loss(plain - batch.old_logprobs, batch.advantages, 0.2, 0.2, 3.0), batch.weights)
    expected = policy + 0.1 * weighted_sum(k3(plain, batch.ref_logprobs), batch.weights)
    loss.backward()
    expected.backward()
    assert loss.item() == expected.item()
    assert torch.equal(ours.grad, plain.grad)
    assert metrics["policy_loss"][0].item() == policy.item()


@pytest.mark.parametrize("section", TOKEN_POLICY_LOSSES, ids=lambda s: s.__name__)
def test_masked_tokens_and_dummies_have_no_gradient(section):
    """Weight 0 takes a token out, whatever its ratio; a dummy's loss and gradient are exactly 0."""
    config = section(name=name_of(section))
    batch = micro_batch()
    masked = batch.index == 2
    batch.weights[masked] = 0.0
    batch.old_logprobs[masked] -= 500.0
    logprobs = batch.behavior_logprobs.clone().requires_grad_()
    loss, _ = rl_loss(batch, logprobs, torch.ones_like(logprobs), ObjectiveConfig(policy_loss=config))
    loss.backward()
    assert loss.isfinite()
    assert not logprobs.grad[masked].any()
    assert logprobs.grad[~masked].any()
    dummy = micro_batch([])
    logprobs = dummy.behavior_logprobs.clone().requires_grad_()
    loss, metrics = rl_loss(dummy, logprobs, torch.ones_like(logprobs), ObjectiveConfig(policy_loss=config))
    loss.backward()
    assert loss.item() == logprobs.grad.item() == 0
    assert all(count == 0 for _, count in metrics.values())


def test_every_section_has_a_loss():
    assert {name_of(section) for section in TOKEN_POLICY_LOSSES} <= set(POLICY_LOSSES)


def test_mismatch_weighs_the_policy_loss_alone():
    """TIS with bound 1.1: the same as scaling each token's weight by min(w, 1.1) in the policy loss, KL untouched."""
    batch = micro_batch()
    objective = ObjectiveConfig(
        kl=KlConfig(coefficient=0.1), mismatch=(MismatchCorrection(level="token", action="clamp", high=1.1),)
    )
    logprobs = batch.behavior_logprobs.clone().requires_grad_()
    loss, metrics = rl_loss(batch, logprobs, torch.ones_like(logprobs), objective)
    scale = (batch.old_logprobs - batch.behavior_logprobs).exp().clamp(max=1.1)
    policy = clip_loss(logprobs - batch.old_logprobs, batch.advantages, 0.2, 0.2) * batch.weights * scale
    kl = k3(logprobs, batch.ref_logprobs) * batch.weights
    torch.testing.assert_close(loss, policy.sum() + 0.1 * kl.sum())
    total, count = metrics["mismatch_weight"]
    assert total.item() / count == pytest.approx(scale.mean().item())


def test_normalised_weights_have_mean_one_and_leave_exempt_tokens_alone():
    """The mean is that of the tokens whose engine and trainer should agree; a replayed one keeps weight 1."""
    batch = micro_batch()
    corrections = (MismatchCorrection(level="token", action="clamp", high=1.1, normalise="batch"),)
    exempt = torch.zeros_like(batch.weights)
    exempt[0] = 1.0
    batch.columns[REPLAYED] = exempt
    set_mismatch_means([batch], corrections)
    scale, _ = mismatch_scale(batch, batch.old_logprobs, corrections)
    plain = (batch.old_logprobs - batch.behavior_logprobs).exp().clamp(max=1.1)[1:]
    assert scale[0].item() == 1.0
    assert scale[1:].mean().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(scale[1:], plain / plain.mean())
    masked = (MismatchCorrection(level="token", action="mask", high=1e-6, normalise="batch"),)
    set_mismatch_means([batch], masked)
    scale, changed = mismatch_scale(batch, batch.old_logprobs, masked)
    assert scale[1:].tolist() == [0.0] * (len(scale) - 1)
    assert changed[1:].all()


def test_plain_grpo_spends_no_forward_pass():
    assert not needs_old_logprobs(ObjectiveConfig(), 1)
    assert needs_old_logprobs(ObjectiveConfig(), 2)
    assert not needs_old_logprobs(ObjectiveConfig(old_policy="engine"), 2)
    assert needs_old_logprobs(ObjectiveConfig(token_weights=(EntropyForks(name="entropy_forks"),)), 1)
    assert needs_old_logprobs(ObjectiveConfig(policy_loss=KlCovLoss(name="kl_cov")), 1)
    mismatch = (MismatchCorrection(level="sequence", action="clamp", high=2.0),)
    assert not needs_old_logprobs(ObjectiveConfig(mismatch=mismatch), 1)
    normalised = (MismatchCorrection(level="sequence", action="clamp", high=2.0, normalise="batch"),)
    assert needs_old_logprobs(ObjectiveConfig(mismatch=normalised), 1)
