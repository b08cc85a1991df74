"""Logprob differences and ratio statistics by hand; what the mask hides and what it must not hide."""

import math

import pytest
import torch

from rlvr.objectives.mismatch import logprob_difference, mismatch_weight, ratio_statistics, weight_total


def test_difference_by_hand():
    logprobs = torch.tensor([-1.0, -2.0, -3.0, 99.0], requires_grad=True)
    behavior = torch.tensor([-1.5, -1.75, -3.0, math.nan])
    result = logprob_difference(logprobs, behavior, torch.tensor([True, True, True, False]))
    # d = 0.5, -0.25, 0: absolute sum 0.75, largest 0.5, signed sum 0.25; the masked NaN is not read.
    assert [value.item() for value in result] == [0.75, 0.5, 0.25, 3]
    assert not any(value.requires_grad for value in result)


def test_nan_in_a_loss_token_stays_visible():  # R6, R18
    result = logprob_difference(torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, math.nan]), torch.tensor([True, True]))
    assert result.absolute_sum.isnan()
    assert result.absolute_max.isnan()


def test_ratio_by_hand():
    log_ratio = torch.tensor([0.0, math.log(2.0), math.log(0.25), 7.0])
    result = ratio_statistics(log_ratio, torch.tensor([True, True, True, False]))
    torch.testing.assert_close(
        torch.stack([result.total, result.maximum, result.minimum]), torch.tensor([3.25, 2.0, 0.25]).double()
    )
    assert result.num_tokens.item() == 3


def test_empty_masks():
    nothing = torch.zeros(4, dtype=torch.bool)
    assert [value.item() for value in logprob_difference(torch.ones(4), torch.zeros(4), nothing)] == [0, 0, 0, 0]
    assert [value.item() for value in ratio_statistics(torch.ones(4), nothing)] == [0, 1, 1, 0]


def test_extreme_ratios_are_finite():
    result = ratio_statistics(torch.tensor([1e4, -1e4]), torch.tensor([True, True]))
    assert all(math.isfinite(value.item()) for value in result)


D = torch.tensor([-1.0, 0.0, 0.5, 1.0])
BEHAVIOR = torch.full((4,), -2.0)
ONE = torch.zeros(4, dtype=torch.long)


def weight(index: torch.Tensor = ONE, count: int = 1, d: torch.Tensor = D, **settings: object) -> list[float]:
    weights, _ = mismatch_weight(BEHAVIOR[: len(d)] + d, BEHAVIOR[: len(d)], index, count, **settings)
    return weights.tolist()


def test_tis_by_hand():
    """w = e^-1, 1, e^.5, min(e, 2)."""
    assert weight(level="token", action="clamp", high=2.0) == pytest.approx([0.367879, 1, 1.648721, 2], rel=1e-5)
    _, changed = mismatch_weight(BEHAVIOR + D, BEHAVIOR, ONE, 1, "token", "clamp", high=2.0)
    assert changed.tolist() == [False, False, False, True]


def test_icepop_by_hand():
    """Within [.5, 5] w is kept, outside it is 0: e^2 = 7.39 too."""
    assert weight(level="token", action="mask", low=0.5, high=5.0) == pytest.approx([0, 1, 1.648721, 2.718282])
    assert weight(d=torch.tensor([2.0]), index=ONE[:1], level="token", action="mask", low=0.5, high=5.0) == [0]


def test_sequence_levels_by_hand():
    """Rollouts [-1, 0] and [.5, 1]: products e^-1 and e^1.5 = 4.481689, geometric means e^-.5 and e^.75."""
    index = torch.tensor([0, 0, 1, 1])
    clamped = weight(index, 2, level="sequence", action="clamp", high=2.0)
    assert clamped == pytest.approx([0.367879, 0.367879, 2, 2], rel=1e-5)
    gate = weight(index, 2, level="sequence", action="mask", low=0.3, high=2.0, weigh=False)
    assert gate == [1, 1, 0, 0]
    geometric = weight(index, 2, level="geometric", action="clamp")
    assert geometric == pytest.approx([0.606531, 0.606531, 2.117, 2.117], rel=1e-5)
    assert weight(index, 2, level="geometric", action="mask", low=0.999, high=1.001, weigh=False) == [0, 0, 0, 0]


def test_other_metrics_by_hand():
    """|d| <= .5 keeps two tokens. k3 = e^d - d - 1: .367879, 0, .148721, .718282, means .18394 and .433502."""
    assert weight(level="token", action="mask", metric="k1", high=0.5, weigh=False) == [0, 1, 1, 0]
    index = torch.tensor([0, 0, 1, 1])
    assert weight(index, 2, level="geometric", action="mask", metric="k3", high=0.2, weigh=False) == [1, 1, 0, 0]
    assert weight(index, 2, level="token", action="mask", metric="k3", high=0.2, weigh=False) == [0, 1, 1, 0]


def test_agreement_weighs_one_and_extremes_are_finite():
    for level in ("token", "sequence", "geometric"):
        for action in ("clamp", "mask"):
            assert weight(d=torch.zeros(4), level=level, action=action, low=0.5, high=2.0) == [1, 1, 1, 1]
            extreme = weight(d=torch.tensor([1e4, -1e4, 50.0, -50.0]), level=level, action=action)
            assert all(math.isfinite(value) for value in extreme)
    bad = mismatch_weight(torch.tensor([math.nan]), torch.zeros(1), ONE[:1], 1, "token", "mask", high=2.0)[0]
    assert bad.tolist() == [0]  # a NaN lies within no bounds


def test_no_gradient_and_any_order():
    logprobs = (BEHAVIOR + D).requires_grad_()
    index = torch.tensor([0, 1, 0, 1])
    weights, _ = mismatch_weight(logprobs, BEHAVIOR, index, 2, "geometric", "clamp", high=1.1)
    assert not weights.requires_grad
    order = torch.tensor([3, 1, 0, 2])
    moved, _ = mismatch_weight(logprobs[order], BEHAVIOR[order], index[order], 2, "geometric", "clamp", high=1.1)
    torch.testing.assert_close(moved, weights[order])


def test_batch_means_by_hand():
    """TIS of d = -1, 0, .5, 1: weights .367879, 1, 1.648721, 2, of mean 5.0166 / 4; without the last 3.0166 / 3.

    Rollouts [-1, 0] and [.5, 1] under a sequence clamp: .367879 and 2, of mean 1.18394, each counted once although the
    second has three tokens. A token that is not counted takes its rollout along where that has no other.
    """
    weights = mismatch_weight(BEHAVIOR + D, BEHAVIOR, ONE, 1, "token", "clamp", high=2.0)[0]
    every = torch.ones(4, dtype=torch.bool)
    total, count = weight_total(weights, ONE, 1, "token", every).tolist()
    assert (total, count) == (pytest.approx(5.0166, abs=1e-4), 4)
    assert (weights / (total / count)).tolist() == pytest.approx([0.2933, 0.7974, 1.3146, 1.5947], abs=1e-4)
    assert weight_total(weights, ONE, 1, "token", torch.tensor([True] * 3 + [False])).tolist() == pytest.approx(
        [3.0166, 3], abs=1e-4
    )
    sequence, index = torch.tensor([0.367879, 0.367879, 2.0, 2.0, 2.0]), torch.tensor([0, 0, 1, 1, 1])
    assert weight_total(sequence, index, 2, "sequence", torch.ones(5, dtype=torch.bool)).tolist() == pytest.approx(
        [2.367879, 2], abs=1e-6
    )
    second_alone = torch.tensor([False, False, True, False, True])
    assert weight_total(sequence, index, 2, "geometric", second_alone).tolist() == [2, 1]
