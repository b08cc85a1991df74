"""Imitation objectives: hand-worked values, what carries a gradient, extremes."""

import math

import pytest
import torch

from rlvr.objectives import imitation as im


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_positive_nll_trains_positive_tokens_only():
    logprobs = t(-1, -2, -3).requires_grad_()
    loss = im.positive_nll(logprobs, t(1, 0, 1))
    torch.testing.assert_close(loss.detach(), t(1, 0, 3))
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), logprobs)[0], t(-1, 0, -1))


def test_iw_sft_by_hand():
    # Mean log-ratio 0.5: e^0.5 = 1.6487; 3 is beyond the clamp: e^3 = 20.1 -> 16; temperature 2 at 0.5: e.
    torch.testing.assert_close(im.completion_importance(t(0.5, 3)), t(math.exp(0.5), 16))
    assert im.completion_importance(t(0.5), 2.0).item() == pytest.approx(math.e)
    torch.testing.assert_close(im.token_importance(t(0.5, -9, 9)), t(math.exp(0.5), 0.2, 1.8))
    logprobs, importance = t(-2).requires_grad_(), t(1.6487).requires_grad_()
    loss = im.iw_sft_loss(logprobs, importance)
    assert loss.item() == pytest.approx(3.2974)
    gradient, none = torch.autograd.grad(loss.sum(), (logprobs, importance), allow_unused=True)
    torch.testing.assert_close(gradient, t(-1.6487))
    assert none is None


def test_rlsc_by_hand():
    # p_old(y) = 0.02, log p(y) = log 0.02 = -3.912: (0.02 + 0.1) * 3.912 = 0.46944, in two tokens of any split.
    logprobs = t(-1.5, math.log(0.02) + 1.5)
    sums = torch.full((2,), math.log(0.02), dtype=torch.float64)
    assert im.rlsc_loss(logprobs, sums).sum().item() == pytest.approx(0.46944, abs=1e-5)
    # A long completion: p_old is 0, alpha alone remains.
    assert im.rlsc_loss(torch.tensor([-1.0]), torch.tensor([-5000.0])).item() == pytest.approx(0.1)


def test_oreal_by_hand():
    # p = 0.9 -> w+ = 0.8: 0.8 * A 0.5 * NLL 2 = 0.8. p = 0.3 -> w- = 0.4, A = -0.5: 0.5 * 0.4 * 0.5 * 1 = 0.1.
    logprobs = t(-2, -3).requires_grad_()
    loss = im.oreal_loss(logprobs, t(0.5, -0.5), t(1, 0), t(0.8, 0.4))
    torch.testing.assert_close(loss.detach(), t(0.8, 0.1))
    # Gradients: -0.8 * 0.5; and 0.5 * 0.4 * 0.5 * exp(0).
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), logprobs)[0], t(-0.4, 0.1))


def test_two_denominators_by_hand():
    # 3 tokens of correct completions, 1 of a wrong one: token-mean weight 1/4 times 4/3 and 4/1 are 1/3 and 1.
    scale = im.balanced_scale(t(1, 1, 1, 0), 3 / 4, 1 / 4)
    torch.testing.assert_close(scale / 4, t(1 / 3, 1 / 3, 1 / 3, 1))
    torch.testing.assert_close(im.balanced_scale(t(0, 0), 0, 1), t(1, 1))


def test_gradcheck():
    logprobs = t(-1, -2, -0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: im.positive_nll(x, t(1, 0, 0.5)), (logprobs,))
    assert torch.autograd.gradcheck(lambda x: im.rlsc_loss(x, t(-3, -3, -0.1)), (logprobs,))
