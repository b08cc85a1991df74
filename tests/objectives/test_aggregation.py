"""Reduction over tokens: hand-worked weights, and independence of how a mini-batch is split."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.objectives.aggregation import AGGREGATIONS, token_weights, weighted_sum
from rlvr.objectives.policy_loss import clip_loss

MODES = list(AGGREGATIONS)


def test_weights_by_hand():
    # Two rollouts of 2 and 4 tokens, limit 10.
    assert token_weights([2, 4], "token_mean", 10) == [1 / 6, 1 / 6]
    assert token_weights([2, 4], "sequence_mean", 10) == [1 / 4, 1 / 8]  # 1 / (2 * 2), 1 / (2 * 4)
    assert token_weights([2, 4], "sequence_sum_constant", 10) == [1 / 20, 1 / 20]  # 1 / (2 * 10)


def test_unit_losses_by_hand():
    # Every token's loss is 1. Means give 1; Dr.GRPO: (2 / 10 + 4 / 10) / 2 = 0.3.
    for mode, expected in {"token_mean": 1.0, "sequence_mean": 1.0, "sequence_sum_constant": 0.3}.items():
        weights = token_weights([2, 4], mode, 10)
        flat = torch.tensor([weights[0]] * 2 + [weights[1]] * 4)
        torch.testing.assert_close(weighted_sum(torch.ones(6), flat), torch.tensor(expected))


def test_modes_differ_on_unequal_losses_by_hand():
    # Losses [3, 3] and [0, 0, 0, 6]: token mean 12 / 6; sequence means 3 and 1.5 -> 2.25; sums (6 + 6) / 10 / 2 = 0.6.
    for mode, expected in {"token_mean": 2.0, "sequence_mean": 2.25, "sequence_sum_constant": 0.6}.items():
        weights = token_weights([2, 4], mode, 10)
        flat = torch.tensor([weights[0]] * 2 + [weights[1]] * 4)
        torch.testing.assert_close(weighted_sum(torch.tensor([3.0, 3, 0, 0, 0, 6]), flat), torch.tensor(expected))


@pytest.mark.parametrize("mode", MODES)
def test_masked_rollouts_count_in_no_denominator(mode):  # R3: the denominator comes from the numerator's own mask
    short, long = token_weights([2, 4], mode, 10)
    assert token_weights([2, 0, 4, 0], mode, 10) == [short, 0, long, 0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_a_batch_without_loss_tokens_is_zero_not_nan(mode, lengths):
    assert token_weights(lengths, mode, 10) == [0.0] * len(lengths)
    values = torch.full((5,), 3.0, requires_grad=True)
    loss = weighted_sum(values, torch.zeros(5))
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad is not None
    assert values.grad.tolist() == [0.0] * 5


def test_masked_tokens_give_no_gradient_even_if_not_finite():
    logprobs = torch.tensor([-1.0, math.nan, -math.inf, -2.0, 50.0], requires_grad=True)
    weights = torch.tensor([0.5, 0.0, 0.0, 0.5, 0.0])
    loss = weighted_sum(clip_loss(logprobs + 1.0, torch.ones(5), 0.2, 0.2), weights)
    loss.backward()
    assert torch.isfinite(loss)
    assert logprobs.grad is not None
    assert logprobs.grad[weights == 0].tolist() == [0.0] * 3
    assert (logprobs.grad[weights != 0] != 0).all()


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_gradient_does_not_depend_on_split_or_order(mode, data):  # R3
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    order = data.draw(st.permutations(range(len(lengths))))
    num_micro_batches = data.draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(sum(lengths))
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    rollouts = [torch.randn(n, generator=generator, dtype=torch.float64) for n in lengths]
    signs = [(-1.0) ** i for i in range(len(lengths))]
    weights = token_weights(lengths, mode, 16)

    def loss_of(indices: list[int]) -> torch.Tensor:
        values = [clip_loss(scale * rollouts[i], torch.full((lengths[i],), signs[i]), 0.2, 0.28) for i in indices]
        flat = [torch.full((lengths[i],), weights[i], dtype=torch.float64) for i in indices]
        return weighted_sum(torch.cat(values), torch.cat(flat))

    whole = loss_of(list(range(len(lengths))))
    parts = [loss_of(part) for k in range(num_micro_batches) if (part := list(order[k::num_micro_batches]))]
    torch.testing.assert_close(sum(p.item() for p in parts), whole.item(), rtol=0, atol=1e-12)
    (expected,) = torch.autograd.grad(whole, scale)
    gradient = sum(torch.autograd.grad(part, scale)[0] for part in parts)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_weights_add_up():
    lengths = [3, 0, 7, 1]
    for mode, total in {"token_mean": 1.0, "sequence_mean": 1.0, "sequence_sum_constant": 11 / (3 * 16)}.items():
        weights = token_weights(lengths, mode, 16)
        assert sum(n * w for n, w in zip(lengths, weights, strict=True)) == pytest.approx(total, abs=1e-15)
