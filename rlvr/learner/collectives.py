"""What ranks tell each other about a batch beside gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_DATA_GROUP: list[Any] = [None]


def set_data_group(group: Any) -> None:
    """The ranks that hold different rows of a batch, which `gathered` asks; None for all ranks."""
    _DATA_GROUP[0] = group


def gathered(values: Tensor) -> Tensor:
    """The values [M] of all ranks in a row, in the order of the ranks; M may differ. Collective; no gradient.

    Ranks that share their tokens (`rlvr.learner.sequence_parallel`) count once. Where no process group is open, the
    values themselves.
    """
    assert values.dim() == 1, values.shape
    values = values.detach()
    group = _DATA_GROUP[0]
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return values
    size = torch.tensor([len(values)], device=values.device)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, size, group=group)
    longest = max(int(s.item()) for s in sizes)
    if not longest:
        return values
    # Collectives of gloo and nccl want equal shapes.
    padded = torch.zeros(longest, dtype=values.dtype, device=values.device)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[: int(s.item())] for part, s in zip(parts, sizes, strict=True)])
