"""However a mini-batch is cut into micro-batches, every objective has the same loss and gradient.

The model is a table of logprobs by token id: what is tested is what lies between logprobs and loss. The same on real
ranks and a transformer: test_learner_policy_losses.py.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from learner_reference import make_sequences

from rlvr.learner.batch import MicroBatch, collate, make_shard
from rlvr.learner.covariance import set_selected
from rlvr.learner.imitation_losses import OUTCOME_WEIGHT
from rlvr.learner.losses import rl_loss
from rlvr.learner.packing import plan_batch
from rlvr.learner.prepass import keeps_rollouts_together
from rlvr.learner.token_scale import SPAN_WEIGHT, set_token_scale
from rlvr.recipe.auxiliary import EntropyBonus
from rlvr.recipe.imitation_losses import BalancedHalves, OrealLoss
from rlvr.recipe.objective import EntropyForks, MismatchCorrection, ObjectiveConfig, SpanWeight
from rlvr.recipe.policy_losses import TOKEN_POLICY_LOSSES

OBJECTIVES = {
    get_args(section.model_fields["name"].annotation)[0]: ObjectiveConfig(
        policy_loss=section(name=get_args(section.model_fields["name"].annotation)[0]), aggregation="sequence_mean"
    )
    for section in TOKEN_POLICY_LOSSES
} | {
    "entropy_forks": ObjectiveConfig(
        token_weights=(EntropyForks(name="entropy_forks"),), token_weight_denominator="selected"
    ),
    "sequence_mismatch": ObjectiveConfig(
        mismatch=(
            MismatchCorrection(level="geometric", action="mask", low=0.8, high=1.3),
            MismatchCorrection(level="sequence", action="clamp", high=2.0),
        )
    ),
    "normalised_mismatch": ObjectiveConfig(
        mismatch=(
            MismatchCorrection(level="token", action="clamp", high=1.2, normalise="batch"),
            MismatchCorrection(level="sequence", action="mask", low=0.3, high=3.0, normalise="batch"),
        )
    ),
    "spans": ObjectiveConfig(
        token_weights=(SpanWeight(name="span", pattern="x"),), token_weight_denominator="selected"
    ),
    "oreal": ObjectiveConfig(
        policy_loss=OrealLoss(name="oreal"), token_weights=(BalancedHalves(name="balanced_halves"),)
    ),
    "entropy_bonus": ObjectiveConfig(auxiliary=(EntropyBonus(name="entropy_bonus", coefficient=0.01),)),
}


def outcome(objective: ObjectiveConfig, budget: int, packing: bool) -> tuple[float, torch.Tensor]:
    sequences = make_sequences(0)
    for sequence in sequences:
        sequence.behavior_logprobs = sequence.behavior_logprobs * 0.1 - 3.3
        # What the driver says of single tokens, for the objectives that read it.
        place = np.arange(len(sequence.token_ids))
        sequence.columns |= {SPAN_WEIGHT: place % 3, OUTCOME_WEIGHT: (place % 4) / 3}
    plan = plan_batch(
        sequences,
        num_ranks=1,
        num_mini_batches=1,
        seed=0,
        max_tokens=budget,
        packing=packing,
        aggregation=objective.aggregation,
        max_completion_tokens=64,
        hidden_size=64,
        together=keeps_rollouts_together(objective),
    )
    shard = make_shard(sequences, plan.weights, plan.ranks[0])
    batches: list[MicroBatch] = [collate(shard, rows, "cpu") for rows in shard.mini_batches[0]]
    torch.manual_seed(0)
    logits = torch.randn(40, 40, dtype=torch.float64) * 0.3
    start = logits.log_softmax(-1)
    noise = torch.randn(40, 40, dtype=torch.float64) * 0.2

    def answer(table: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        rows = table.log_softmax(-1)[batch.input_ids[0, batch.loss_positions]]
        return rows.gather(-1, batch.targets[:, None])[:, 0].float(), -(rows.exp() * rows).sum(-1).float()

    for batch in batches:
        batch.old_logprobs, batch.entropies = answer(start, batch)
    set_token_scale(batches, objective)
    set_selected(batches, objective.policy_loss)
    current = (logits + noise).requires_grad_()
    loss = torch.stack([rl_loss(batch, *answer(current, batch), objective)[0] for batch in batches]).sum()
    loss.backward()
    assert current.grad is not None
    return loss.item(), current.grad


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_change_nothing(name: str) -> None:
    loss, gradient = outcome(OBJECTIVES[name], 4096, True)
    assert gradient.abs().max() > 1e-4
    for budget, packing in ((48, True), (120, True), (48, False)):
        other, others = outcome(OBJECTIVES[name], budget, packing)
        assert other == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(others, gradient, rtol=1e-4, atol=1e-6)
