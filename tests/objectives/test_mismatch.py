"""Logprob differences and ratio statistics by hand; what the mask hides and what it must not hide."""

import math

import torch

from rlvr.objectives.mismatch import logprob_difference, ratio_statistics


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
