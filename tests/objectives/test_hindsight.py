"""Hindsight relabelling: the right instruction against the others, by hand and from micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlvr.learner.batch import TrainSequence, collate, make_shard
from rlvr.learner.linearised import linear_form, linearise
from rlvr.objectives.hindsight import hir, hir_contrast, instruction_log_shares
from rlvr.recipe.imitation_losses import HirLoss

CONFIG = HirLoss(name="hir")


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


ONE = torch.zeros(2, dtype=torch.long)


def test_contrast_by_hand() -> None:
    # Mean NLL 1 under the right instruction, 2 under the other: q = e^-1 / (e^-1 + e^-2) = .73106, .26894;
    # .8 * -log .73106 + .2 * -log .26894 = .25061 + .26265 = .51326, at the right one only.
    torch.testing.assert_close(instruction_log_shares(t(1, 2), ONE).exp(), t(0.73106, 0.26894), atol=1e-5, rtol=0)
    torch.testing.assert_close(hir_contrast(t(1, 2), ONE, t(1, 0), 0.2), t(0.51326, 0), atol=1e-5, rtol=0)
    # Three instructions, all alike: each has share 1/3, whatever the smoothing.
    alike = hir_contrast(t(2, 2, 2), torch.zeros(3, dtype=torch.long), t(0, 1, 0), 0.2)
    torch.testing.assert_close(alike, t(0, np.log(3), 0))


def test_extreme_likelihoods_stay_finite_and_a_single_instruction_has_no_contrast() -> None:
    torch.testing.assert_close(hir_contrast(t(1e4, 0), ONE, t(1, 0), 0.2), t(8e3, 0))
    nlls = t(3, 1).requires_grad_()
    alone = hir_contrast(nlls, torch.tensor([0, 1]), t(1, 1), 0.2)
    assert alone.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(alone.sum(), nlls)[0].tolist() == [0.0, 0.0]


def test_the_loss_by_hand() -> None:
    # Completion 0, of 2 tokens, under two instructions: sums -2 and -4, so NLL 1 and 2; completion 1 alone: NLL 3.
    sums, lengths, groups = t(-2, -4, -3), t(2, 2, 1), torch.tensor([0, 0, 1])
    loss = hir(sums, lengths, t(0, 0, 0), groups, CONFIG, {"instructed": t(1, 0, 1)})
    assert loss.item() == pytest.approx((1 + 0.51326 + 3) / 2, abs=1e-5)
    plain = HirLoss(name="hir", contrast=0.0)
    assert hir(sums, lengths, t(0, 0, 0), groups, plain, {"instructed": t(1, 0, 1)}).item() == pytest.approx(2.0)
    order = torch.tensor([2, 1, 0])
    turned = hir(sums[order], lengths[order], t(0, 0, 0), groups[order], CONFIG, {"instructed": t(1, 0, 1)[order]})
    assert turned.item() == pytest.approx(loss.item())


def test_gradients() -> None:
    sums = torch.randn(6, dtype=torch.float64, requires_grad=True)
    lengths, groups, instructed = t(1, 2, 3, 1, 2, 1), torch.tensor([0, 0, 0, 1, 1, 2]), t(0, 1, 0, 1, 0, 1)
    assert torch.autograd.gradcheck(lambda x: hir(x, lengths, x * 0, groups, CONFIG, {"instructed": instructed}), sums)


@pytest.mark.parametrize("split", [[[0, 1, 2]], [[0], [2], [1]], [[1, 2], [], [0]]])
def test_micro_batches_change_nothing(split: list[list[int]]) -> None:
    """Two instructions of one completion need not share a micro-batch; prompt tokens get no gradient."""
    rows = []
    for number, (group, instructed, length) in enumerate([(0, 1.0, 2), (0, 0.0, 2), (1, 1.0, 3)]):
        mask = np.arange(length + 2) >= 2
        zeros = np.zeros(length + 2)
        facts = {"instructed": instructed, "reward": 0.0}
        rows.append(TrainSequence(np.arange(length + 2) + number, mask, zeros, zeros, number, group=group, facts=facts))
    shard = make_shard(rows, [1.0] * 3, [split])
    batches = [collate(shard, micro, "cpu") for micro in split]
    table = torch.log_softmax(torch.arange(36, dtype=torch.float32).reshape(6, 6).sin(), -1).requires_grad_()

    def logprobs_of(batch) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return table[batch.input_ids[0, batch.loss_positions], batch.targets % 6]

    current = [logprobs_of(batch) for batch in batches]
    loss = linearise(batches, [values.detach() for values in current], shard, CONFIG).loss
    torch.stack([linear_form(batch, values) for batch, values in zip(batches, current, strict=True)]).sum().backward()
    whole = table.detach().double().requires_grad_()
    sums = torch.stack(
        [sum(whole[r.token_ids[i - 1], r.token_ids[i] % 6] for i in np.flatnonzero(r.loss_mask)) for r in rows]
    )
    expected = hir(sums, t(2, 2, 3), t(0, 0, 0), torch.tensor([0, 0, 1]), CONFIG, {"instructed": t(1, 0, 1)})
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-6)
    assert table.grad is not None
    assert whole.grad is not None
    torch.testing.assert_close(table.grad.double(), whole.grad, atol=1e-6, rtol=1e-5)
    assert table.grad[0].abs().sum() == 0  # it only stands before a token of a prompt
