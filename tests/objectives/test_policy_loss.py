"""The clipped surrogate: hand-worked values, gradients, extremes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.objectives.policy_loss import clip_fractions, clip_loss


def log_of(*ratios: float) -> torch.Tensor:
    return torch.tensor(ratios, dtype=torch.float64).log()


# clip_low 0.2, clip_high 0.28: the range is [0.8, 1.28].
# ratio 1.5, A 1: clipped, -1.28, no gradient.   ratio 1.5, A -1: max(1.5, 1.28) = 1.5, gradient.
# ratio 0.5, A 1: max(-0.5, -0.8) = -0.5, gradient.   ratio 0.5, A -1: max(0.5, 0.8) = 0.8, no gradient.
# ratio 1.25, A 2: inside the range only because of clip-higher: -2.5, gradient.   ratio 4, A -1: 4, gradient.
RATIOS = log_of(1.5, 1.5, 0.5, 0.5, 1.25, 4.0)
ADVANTAGES = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, -1.0], dtype=torch.float64)


def value_and_gradient(**kwargs: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    log_ratio = RATIOS.clone().requires_grad_()
    loss = clip_loss(log_ratio, ADVANTAGES, **kwargs)
    (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
    return loss.detach(), gradient


def test_value_and_gradient_by_hand():
    loss, gradient = value_and_gradient(clip_low=0.2, clip_high=0.28)
    torch.testing.assert_close(loss, torch.tensor([-1.28, 1.5, -0.5, 0.8, -2.5, 4.0], dtype=torch.float64))
    # d(-A ratio) / d log_ratio = -A ratio where not clipped, 0 where clipped.
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1.5, -0.5, 0.0, -2.5, 4.0], dtype=torch.float64))


def test_dual_clip_by_hand():
    # c = 3 touches only the last token: A < 0 and 4 > 3, so the loss is 3 and the gradient 0.
    loss, gradient = value_and_gradient(clip_low=0.2, clip_high=0.28, dual_clip=3.0)
    torch.testing.assert_close(loss, torch.tensor([-1.28, 1.5, -0.5, 0.8, -2.5, 3.0], dtype=torch.float64))
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1.5, -0.5, 0.0, -2.5, 0.0], dtype=torch.float64))


def test_fractions_count_the_tokens_without_gradient_by_side():
    low, high = clip_fractions(RATIOS, ADVANTAGES, 0.2, 0.28)
    assert low.tolist() == [False, False, False, True, False, False]
    assert high.tolist() == [True, False, False, False, False, False]
    low, high = clip_fractions(RATIOS, ADVANTAGES, 0.2, 0.28, dual_clip=3.0)
    assert low.tolist() == [False, False, False, True, False, False]
    assert high.tolist() == [True, False, False, False, False, True]


@given(
    log_ratio=st.lists(st.floats(-3, 3), min_size=1, max_size=20),
    advantage=st.floats(-5, 5).filter(lambda a: abs(a) > 1e-3),
    dual_clip=st.sampled_from([None, 3.0, 10.0]),
)
@settings(max_examples=60, deadline=None)
def test_gradient_is_zero_exactly_where_clip_fractions_say(log_ratio, advantage, dual_clip):
    logs = torch.tensor(log_ratio, dtype=torch.float64, requires_grad=True)
    advantages = torch.full_like(logs, advantage, requires_grad=False)
    (gradient,) = torch.autograd.grad(clip_loss(logs, advantages, 0.2, 0.28, dual_clip).sum(), logs)
    low, high = clip_fractions(logs, advantages, 0.2, 0.28, dual_clip)
    assert torch.equal(gradient == 0, low | high)


def test_on_policy_gradient_is_reinforce():
    # At ratio 1 the gradient with respect to logprobs is -A: the clip range plays no part.
    log_ratio = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([0.7, -0.3, 0.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(clip_loss(log_ratio, advantages, 0.2, 0.2, 3.0).sum(), log_ratio)
    torch.testing.assert_close(gradient, -advantages)


def test_gradcheck():
    # Away from the kinks (0.8, 1.28, 3), where finite differences mean nothing.
    log_ratio = log_of(0.3, 0.7, 0.9, 1.0, 1.2, 1.4, 2.5, 5.0).requires_grad_()
    for sign in (1.0, -1.0):
        advantages = sign * torch.linspace(0.1, 2.0, 8, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x, a=advantages: clip_loss(x, a, 0.2, 0.28, 3.0), (log_ratio,))


@pytest.mark.parametrize("log_ratio", [1e4, -1e4, 88.8, -200.0, math.inf, -math.inf])
@pytest.mark.parametrize("advantage", [2.0, -2.0, 0.0])
def test_extreme_ratios_stay_finite(log_ratio, advantage):
    logs = torch.tensor([log_ratio, 0.0], requires_grad=True)
    loss = clip_loss(logs, torch.tensor([advantage, advantage]), 0.2, 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), logs)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
    # exp(20) = 485165195.4: the clamp, not the float range, is the bound.
    assert loss.abs().max() <= 485165196 * 2


def test_nan_is_not_hidden():  # R18: a NaN logprob must reach the loss, where the step is refused
    assert clip_loss(torch.tensor([math.nan]), torch.tensor([1.0]), 0.2, 0.2).isnan().all()
