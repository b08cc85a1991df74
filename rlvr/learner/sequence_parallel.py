"""Ulysses sequence parallelism: ranks share the tokens of a row, and in attention its heads instead.

Jacobs et al. 2023 (2309.14509). Legend: P = ranks of a sequence group, N = tokens of the packed row (padded to a
multiple of P), n = N / P, H = heads, D = head size, M = loss tokens of the row.

Rank p holds tokens p * n to (p + 1) * n of every activation. Before attention the ranks exchange heads for tokens, so
that each sees whole documents in H / P heads; after it they exchange back. All ranks of a group then know all logprobs
and compute the same loss, whose gradient each takes through its own tokens: gradients add up over all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rlvr.learner.attention import Documents


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """The ranks that share a row; this one has its part number `index` of `size`."""

    group: Any
    size: int
    index: int

    def own_part(
        self, inputs: dict[str, Any], positions: Tensor, targets: Tensor
    ) -> tuple[dict[str, Any], Tensor, Tensor, list[int]]:
        """The inputs of a decoder, loss positions and targets of this rank's tokens; how many each rank has.

        A rank without a loss token gets a position to look at all the same, so that its output is attached to every
        parameter; `everyone` leaves it out.
        """
        documents: Documents = inputs["documents"]
        num_tokens = inputs["input_ids"].shape[1]
        pad = -num_tokens % self.size
        if pad:
            # Padding is a document of its own: nobody looks at it.
            lengths = [end - start for start, end in pairwise(documents.cu_seqlens)]
            documents = Documents.of_lengths([*lengths, pad], positions.device)
        length = (num_tokens + pad) // self.size
        start = self.index * length
        counts = torch.bincount(positions // length, minlength=self.size).tolist()
        first = sum(counts[: self.index])
        own = slice(first, first + counts[self.index])
        if counts[self.index]:
            positions, targets = positions[own] - start, targets[own]
        else:
            positions, targets = positions.new_zeros(1), targets.new_zeros(1)
        part = {
            name: F.pad(inputs[name], (0, pad))[:, start : start + length] for name in ("input_ids", "position_ids")
        }
        return {**inputs, **part, "documents": documents, "sequence": self}, positions, targets, counts

    def everyone(self, values: Tensor, counts: Sequence[int]) -> Tensor:
        """The values of all ranks' loss tokens in the order of the row, [M, ...]; the gradient goes to one's own."""
        whole: Tensor = _Gather.apply(values[: counts[self.index]], tuple(counts), self)
        return whole

    def to_heads(self, tensor: Tensor) -> Tensor:
        """[1, H, n, D] -> [1, H / P, N, D]."""
        _, heads, length, size = tensor.shape
        parts = tensor.reshape(self.size, heads // self.size, length, size)
        # From rank p: its tokens in our heads.
        return _exchanged(parts, self.group).transpose(0, 1).reshape(1, heads // self.size, -1, size)

    def to_tokens(self, tensor: Tensor) -> Tensor:
        """[1, N, H / P, D] -> [1, n, H, D]."""
        _, length, heads, size = tensor.shape
        parts = tensor.reshape(self.size, length // self.size, heads, size)
        # From rank p: our tokens in its heads.
        return _exchanged(parts, self.group).transpose(0, 1).reshape(1, length // self.size, -1, size)


def sequence_groups(size: int) -> tuple[SequenceGroup | None, Any]:
    """(this rank's sequence group, the ranks with the same part of other rows); (None, None) for a size of 1.

    Neighbours share rows: they are the likeliest to share a node. Collective; made once per size.
    """
    if size == 1:
        return None, None
    if size not in _GROUPS:
        world, rank = dist.get_world_size(), dist.get_rank()
        rows = [dist.new_group(list(range(first, first + size))) for first in range(0, world, size)]
        parts = [dist.new_group(list(range(index, world, size))) for index in range(size)]
        _GROUPS[size] = SequenceGroup(rows[rank // size], size, rank % size), parts[rank % size]
    return _GROUPS[size]


_GROUPS: dict[int, tuple[SequenceGroup, Any]] = {}


def _exchanged(parts: Tensor, group: Any) -> Tensor:
    result: Tensor = _AllToAll.apply(parts.contiguous(), group)
    return result


class _AllToAll(Function):
    """Part p of [P, ...] goes to rank p, and what comes from rank p stands at p: its own transpose."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: Any) -> Tensor:
        ctx.group = group
        received = torch.empty_like(parts)
        dist.all_to_all_single(received, parts, group=group)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Both in the same order of memory: an empty tensor like a transposed one would be transposed.
        grad = grad.contiguous()
        received = torch.empty_like(grad)
        dist.all_to_all_single(received, grad, group=ctx.group)
        return received, None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: tuple[int, ...], group: SequenceGroup) -> Tensor:
        ctx.first, ctx.count = sum(counts[: group.index]), counts[group.index]
        # Collectives of gloo and nccl want equal shapes.
        padded = own.new_zeros((max(1, *counts), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=group.group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[ctx.first : ctx.first + ctx.count], None, None
