"""The reference policy: what the policy is compared with; a copy of its own, or the policy without its adapters."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from rlvr.learner.batch import MicroBatch
from rlvr.learner.lora import adapters_off

if TYPE_CHECKING:
    from rlvr.learner.engine import TrainingEngine


class Reference(Protocol):
    """A policy that is asked and never trained."""

    policy: Any

    def forward(self, batch: MicroBatch, temperature: float, through_logits: bool = False) -> tuple[Tensor, Tensor]:
        """Logprobs and entropies [M] in nats. Collective under ZeRO-3."""

    def states(self, batch: MicroBatch) -> Tensor:
        """Last hidden states [M, d] at the loss positions. Collective under ZeRO-3."""

    def visit(self) -> AbstractContextManager[None]:
        """Open around several passes, so that weights that live elsewhere come to the device once."""

    def close(self) -> None: ...


class BaseReference:
    """The base of a policy under LoRA: the trained engine with its adapters off. No weight is held twice."""

    def __init__(self, engine: TrainingEngine) -> None:
        self.engine = engine
        self.policy: Any = engine.policy

    def forward(self, batch: MicroBatch, temperature: float, through_logits: bool = False) -> tuple[Tensor, Tensor]:
        with adapters_off(self.policy):
            return self.engine.forward(batch, temperature, through_logits)

    def states(self, batch: MicroBatch) -> Tensor:
        with adapters_off(self.policy), torch.no_grad():
            states: Tensor = self.engine.engine(batch, 1.0, False, True)[0]
        return states

    def visit(self) -> AbstractContextManager[None]:
        """The engine's weights are there."""
        return nullcontext()

    def close(self) -> None:
        """Nothing: the weights are the engine's."""
