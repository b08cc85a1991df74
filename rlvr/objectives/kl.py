"""Per-token estimates of KL(policy || reference) from the logprobs of tokens that the policy sampled.

Shapes: any, equal; results likewise, in nats per token. In the loss the gradient flows through `logprobs` only.
Schulman, "Approximating KL divergence", 2020. What each does as a LOSS on on-policy samples, in expectation: k1 nothing
(its gradient has mean 0), k2 the gradient of KL(policy || reference), k3 that of KL(reference || policy). In the
REWARD, k1 is the unbiased choice.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

MAX_LOG_RATIO = 20.0  # of k3 before the exponential; verl's limits
MAX_K3 = 10.0


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """logprobs - ref_logprobs: unbiased, may be negative. Not clamped."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(logprobs - ref_logprobs)^2 / 2: biased, never negative. Not clamped: its gradient is only linear."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = ref_logprobs - logprobs: unbiased, never negative. Eq. 4 of DeepSeekMath (2402.03300).

    d is clamped to +-20 and the value to [0, 10]; the gradient is 0 where a clamp is active (that is above d = 2.61 and
    below d = -11). expm1 keeps the digits that exp(d) - 1 loses near d = 0, where policy and reference agree.
    """
    d = (ref_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return (d.expm1() - d).clamp(0.0, MAX_K3)


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
