"""Hindsight: a completion under the instruction that it fulfilled, compared with the ones that it did not.

Shapes as in `rlvr.objectives.group_losses`; a group here is ONE completion under each of its instructions, and the
fact `instructed` is 1 for the one that it fulfilled; without the fact every one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def instruction_log_shares(nlls: Tensor, groups: Tensor) -> Tensor:
    """log of each instruction's share in exp(-mean NLL) over the instructions of its completion, [N] -> [N].

    Hindsight instruction relabelling (2302.05206), eq. 6, from its code. A completion without another has share 1.
    """
    same = groups[:, None] == groups
    return -nlls - torch.where(same, -nlls, -torch.inf).logsumexp(1)


def hir_contrast(nlls: Tensor, groups: Tensor, instructed: Tensor, smoothing: float) -> Tensor:
    """(1 - e) * -log q of the right instruction + e * mean over the others of -log q; [N], 0 but at the right ones.

    The gradient flows through all of `nlls` [N] (mean NLL of the completion's tokens, nats). A completion that stands
    under one instruction only has nothing to be told from, and 0.
    """
    log_q = instruction_log_shares(nlls, groups)
    same = (groups[:, None] == groups) & (instructed[None, :] == 0)
    others = same.sum(1)
    of_others = torch.where(same, log_q[None, :], torch.zeros_like(log_q)).sum(1) / others.clamp(min=1)
    contrast = -(1 - smoothing) * log_q - smoothing * of_others
    return torch.where((instructed > 0) & (others > 0), contrast, torch.zeros_like(contrast))


def hir(
    sums: Tensor, lengths: Tensor, rewards: Tensor, groups: Tensor, config: Any, facts: Mapping[str, Tensor]
) -> Tensor:
    """Mean over completions of config.imitation * NLL per token + config.contrast * contrast. HIR (2302.05206)."""
    nlls = -sums / lengths.clamp(min=1)
    instructed = facts.get("instructed", torch.ones_like(sums))
    contrast = hir_contrast(nlls, groups, instructed, config.smoothing)
    losses = config.imitation * nlls * (instructed > 0) + config.contrast * contrast
    return losses.sum() / (instructed > 0).sum().clamp(min=1)
