"""Losses of whole groups in micro-batches: the exact gradient by linearising at the current parameters.

L(s_1 .. s_N) couples rollouts that no micro-batch holds together. With c_i = dL/ds_i at the current parameters, the
sum over i of c_i * s_i has the same gradient, and splits over tokens: each loss token of rollout i has coefficient c_i.
The price is a forward pass before each optimizer step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlvr.learner.batch import MicroBatch, Shard, sequence_index
from rlvr.learner.collectives import gathered
from rlvr.objectives.aggregation import weighted_sum
from rlvr.objectives.group_losses import GROUP_LOSSES
from rlvr.objectives.preference import in_group_pairs
from rlvr.slots import resolve

PER_TOKEN = frozenset({"rrhf", "rrtf", "trpa"})
"""Losses that compare means per token; `ipo` does where its section says so."""


class Linearised(NamedTuple):
    """The loss of a mini-batch, and how many of the pairs that differ in reward the policy orders; a tie is half."""

    loss: Tensor
    ordered: Tensor
    num_pairs: int


def is_group_loss(config: Any) -> bool:
    """Whether a section of `objective.policy_loss` chooses a loss of whole groups."""
    return config.name == "group" or config.name in GROUP_LOSSES


def linearise(mini_batch: Sequence[MicroBatch], logprobs: Sequence[Tensor], shard: Shard, config: Any) -> Linearised:
    """Fills `coefficients` [M] of a rank's share of one mini-batch; the loss L at these logprobs. Collective.

    logprobs: the current ones of each micro-batch, [M] each.
    """
    device = mini_batch[0].weights.device
    numbers, sums, lengths = _sums(mini_batch, logprobs, config.anchor)
    rows = _rows(mini_batch, shard)
    total = _Table(numbers, device)
    known = total.add(sums), total.add(lengths)
    facts = {name: total.take(rows, column) for name, column in {**shard.facts, "group": shard.groups}.items()}
    values = known[0].requires_grad_()
    groups = facts.pop("group").long()
    rewards = facts.get("reward", torch.zeros_like(values))
    function = resolve(config.fn if config.name == "group" else config.name, GROUP_LOSSES, "objective.policy_loss.fn")
    with torch.enable_grad():
        loss = function(values, known[1], rewards, groups, config, facts)
        (gradient,) = torch.autograd.grad(loss, values)
    for batch in mini_batch:
        if batch.num_loss_tokens:
            own = total.rows_of(torch.as_tensor(batch.rollouts, device=device))
            batch.coefficients = gradient[own].to(batch.weights.dtype)[sequence_index(batch)]
        else:
            batch.coefficients = torch.zeros_like(batch.weights)
    return Linearised(loss.detach(), *_ordered(values.detach(), known[1], rewards, groups, config))


def _ordered(sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any) -> tuple[Tensor, int]:
    per_token = config.name in PER_TOKEN or getattr(config, "per_token", False)
    scores = sums / lengths.clamp(min=1) if per_token else sums
    pairs = in_group_pairs(rewards, groups)
    margins = scores[pairs.winners] - scores[pairs.losers]
    return (0.5 * (1 + margins.sign())).sum(), len(pairs.winners)


def linear_form(batch: MicroBatch, logprobs: Tensor) -> Tensor:
    """sum over tokens of coefficient * logprob; gradient flows through `logprobs` [M]."""
    assert batch.coefficients is not None, "linearise first"
    return weighted_sum(logprobs, batch.coefficients)


class _Table:
    """Rollouts of the mini-batch over all ranks, sorted by number; a rollout may have parts on several."""

    def __init__(self, numbers: Tensor, device: torch.device) -> None:
        self.all = gathered(numbers)
        self.numbers, self.index = torch.unique(self.all, return_inverse=True)

    def add(self, values: Tensor) -> Tensor:
        everyone = gathered(values)
        return torch.zeros(len(self.numbers), dtype=values.dtype, device=values.device).index_add(
            0, self.index, everyone
        )

    def take(self, rows: Sequence[int], column: np.ndarray) -> Tensor:
        """What is the same for all parts of a rollout; `rows` are this rank's, in the order of its numbers."""
        own = torch.as_tensor(np.asarray(column, dtype=np.float64)[list(rows)], device=self.all.device)
        result = torch.zeros(len(self.numbers), dtype=torch.float64, device=self.all.device)
        return result.index_copy(0, self.index, gathered(own)) if len(self.index) else result

    def rows_of(self, numbers: Tensor) -> Tensor:
        return torch.searchsorted(self.numbers, numbers)


def _sums(mini_batch: Sequence[MicroBatch], logprobs: Sequence[Tensor], anchor: str) -> tuple[Tensor, Tensor, Tensor]:
    """(numbers, summed log ratios, lengths) of the rollouts in each micro-batch, one after the other."""
    device = mini_batch[0].weights.device
    numbers, sums, lengths = [], [], []
    for batch, current in zip(mini_batch, logprobs, strict=True):
        if not batch.num_loss_tokens:
            continue
        below = {"none": None, "old": batch.old_logprobs, "reference": batch.ref_logprobs}
        base = batch.behavior_logprobs if anchor == "engine" else below[anchor]
        assert base is not None or anchor == "none", f"no logprobs of the anchor {anchor}"
        ratio = current.detach().double() - (base.double() if base is not None else 0.0)
        zeros = torch.zeros(len(batch.rollouts), dtype=torch.float64, device=device)
        index = sequence_index(batch)
        numbers.append(torch.as_tensor(batch.rollouts, device=device))
        sums.append(zeros.index_add(0, index, ratio))
        lengths.append(zeros.index_add(0, index, torch.ones_like(ratio)))
    if not numbers:
        nothing = torch.zeros(0, dtype=torch.float64, device=device)
        return torch.zeros(0, dtype=torch.long, device=device), nothing, nothing
    return torch.cat(numbers), torch.cat(sums), torch.cat(lengths)


def _rows(mini_batch: Sequence[MicroBatch], shard: Shard) -> list[int]:
    """A sequence of each rollout, in the order of `_sums`."""
    rows = []
    for batch in mini_batch:
        if batch.num_loss_tokens:
            first = {int(shard.rollouts[row]): row for row in reversed(batch.rows)}
            rows += [first[rollout] for rollout in batch.rollouts]
    return rows
