"""The KL between policy and reference at the loss tokens of a micro-batch, as a recipe asks for it.

Legend: M = loss tokens of the micro-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from rlvr.learner.batch import MicroBatch
from rlvr.objectives.kl import critical_token_weights, straight_through
from rlvr.recipe.kl import KlConfig

if TYPE_CHECKING:
    from rlvr.learner.reference import Reference


def set_reference(
    batch: MicroBatch,
    reference: Reference,
    config: KlConfig,
    temperature: float,
    old_entropies: Tensor | None = None,
) -> None:
    """Fills `ref_logprobs` [M], and `kl_weights` [M] where tokens weigh differently. Collective under ZeRO-3."""
    batch.ref_logprobs, entropies = reference.forward(batch, temperature)
    if config.critical is None:
        return
    if config.critical.entropy_of == "old":
        assert old_entropies is not None, "the policy's entropies come from a forward pass before"
        entropies = old_entropies
    model: Any = reference.policy.model
    batch.kl_weights = critical_token_weights(entropies, model.config.vocab_size, config.critical.exponent)


def kl_values(batch: MicroBatch, logprobs: Tensor, config: KlConfig) -> Tensor:
    """The estimate at each loss token (nats), [M]; the gradient flows through `logprobs` as `config.gradient` says."""
    assert batch.ref_logprobs is not None, "a KL term needs the reference's logprobs"
    values = straight_through(logprobs, batch.ref_logprobs, config.estimator, config.gradient or config.estimator)
    return values if batch.kl_weights is None else values * batch.kl_weights
