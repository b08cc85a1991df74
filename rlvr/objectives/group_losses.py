"""Losses of whole groups: of the summed log ratios of rollouts, with their rewards and their prompts.

Shapes: N = rollouts of one mini-batch, over all ranks, in the order of their numbers; all tensors are [N], float64 but
for `groups` (int: equal numbers share a prompt). A function answers with a scalar whose gradient flows through `sums`;
it holds its own normalisation. The learner calls it before each optimizer step (`rlvr.learner.linearised`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rlvr.objectives import group_preferences, hindsight

GroupLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Any, Mapping[str, Tensor]], Tensor]
"""(sums, lengths, rewards, groups, config, facts) -> loss.

sums: log ratios of a rollout's loss tokens to the anchor of the recipe, summed (nats); lengths: their number; rewards:
before the baseline; config: the section of the recipe that chose the loss; facts: further numbers per rollout, by name
(`rlvr.learner.batch.TrainSequence.facts`).
"""

GROUP_LOSSES: dict[str, GroupLoss] = {
    "a_star_po": group_preferences.a_star_po,
    "adpo": group_preferences.adpo,
    "dno": group_preferences.dno,
    "dpo": group_preferences.dpo,
    "gpo": group_preferences.gpo,
    "hir": hindsight.hir,
    "ipo": group_preferences.ipo,
    "mpo": group_preferences.mpo,
    "nash_md": group_preferences.nash_md,
    "rrhf": group_preferences.rrhf,
    "rrtf": group_preferences.rrtf,
    "sppo": group_preferences.sppo,
    "trpa": group_preferences.trpa,
    "xpo": group_preferences.xpo,
}
