"""KL estimators: hand-worked values, clamps, and what their gradients are in expectation."""

import math

import pytest
import torch

from rlvr.objectives.kl import ESTIMATORS


def test_values_by_hand():
    logprobs = torch.tensor([-1.0, -1.0, -1.0], dtype=torch.float64)
    ref_logprobs = torch.tensor([-1.1, -0.9, -1.0], dtype=torch.float64)
    expected = {
        "k1": [0.1, -0.1, 0.0],
        "k2": [0.005, 0.005, 0.0],
        # d = -0.1: exp(-0.1) + 0.1 - 1 = 0.9048374 - 0.9; d = 0.1: exp(0.1) - 0.1 - 1 = 1.1051709 - 1.1.
        "k3": [0.0048374180, 0.0051709181, 0.0],
    }
    for name, values in expected.items():
        torch.testing.assert_close(
            ESTIMATORS[name](logprobs, ref_logprobs), torch.tensor(values, dtype=torch.float64), rtol=0, atol=1e-9
        )


def test_k3_keeps_its_digits_where_policy_and_reference_agree():
    # d = 1e-3: d^2 / 2 + d^3 / 6 = 5.00167e-7. exp(d) - d - 1 in float32 is off by up to 1e-7, a fifth of it.
    value = ESTIMATORS["k3"](torch.zeros(1), torch.full((1,), 1e-3))
    assert value.item() == pytest.approx(5.0016671e-7, rel=1e-3)


@pytest.mark.parametrize(("difference", "k3"), [(50.0, 10.0), (-50.0, 10.0), (1e6, 10.0), (-5.0, math.exp(-5) + 4)])
def test_k3_clamps(difference, k3):
    logprobs = torch.zeros(1, requires_grad=True)
    value = ESTIMATORS["k3"](logprobs, torch.tensor([difference]))
    assert value.item() == pytest.approx(k3, rel=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    assert torch.isfinite(gradient).all()
    assert (gradient == 0).item() == (k3 == 10.0)


def test_values_and_gradients_in_expectation():
    """Over all actions of a softmax policy, weighted by their probability: no sampling noise."""
    logits = torch.tensor([0.3, -0.2, 0.9, 0.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.0, 0.4, 0.5, -0.3], dtype=torch.float64).log_softmax(0)
    logprobs = logits.log_softmax(0)
    probabilities = logprobs.exp()
    reverse = (probabilities * (logprobs - reference)).sum()  # KL(policy || reference)
    forward = (reference.exp() * (reference - logprobs)).sum()  # KL(reference || policy)
    weight = probabilities.detach()  # on-policy samples: no gradient through the sampling
    for name in ("k1", "k3"):
        torch.testing.assert_close((weight * ESTIMATORS[name](logprobs, reference)).sum(), reverse)

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    as_loss = {name: gradient((weight * k(logprobs, reference)).sum()) for name, k in ESTIMATORS.items()}
    torch.testing.assert_close(as_loss["k1"], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(as_loss["k2"], gradient(reverse))
    torch.testing.assert_close(as_loss["k3"], gradient(forward))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_gradcheck(name):
    logprobs = torch.tensor([-0.5, -1.5, -3.0], dtype=torch.float64, requires_grad=True)
    ref_logprobs = torch.tensor([-0.7, -1.0, -2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ESTIMATORS[name](x, ref_logprobs), (logprobs,))
