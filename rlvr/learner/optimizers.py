"""AdamW whose moments take two bytes per parameter and not eight: bitsandbytes (Dettmers et al. 2022, 2110.02861)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rlvr.errors import RecipeError


def eight_bit_adamw(
    parameters: Sequence[nn.Parameter], kind: str, device: str, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """`kind` adamw_8bit or paged_adamw_8bit; tensors below 4096 elements keep float32 moments.

    Raises RecipeError where the package is absent, or for paging on a CPU.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise RecipeError(
            f"learner.optimizer.kind={kind}: the package bitsandbytes is not installed; "
            "install the extra (pip install 'rlvr[bitsandbytes]'), or use adamw"
        ) from error
    if kind == "paged_adamw_8bit" and device == "cpu":
        raise RecipeError(f"learner.optimizer.kind={kind}: pages move between GPU and CPU; on a CPU use adamw_8bit")
    classes = {"adamw_8bit": bitsandbytes.optim.AdamW8bit, "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit}
    optimizer: torch.optim.Optimizer = classes[kind](parameters, **options)
    return optimizer
