"""Exploration as the driver sees it: hints for what is unsolved, bonuses for what is unlike the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rlvr.controller.batch import to_sequences
from rlvr.controller.hints import guide, hinted_prompt
from rlvr.metrics import Metrics
from rlvr.objectives.exploration import allowed_bonus, elliptical_bonus, normalised_bonus, sparse_projection
from rlvr.recipe.exploration import RepresentationBonus
from rlvr.records import Group, Rollout
from rlvr.scoring.total import is_correct

if TYPE_CHECKING:
    from rlvr.controller.context import StageContext
    from rlvr.learner.group import LearnerGroup
    from rlvr.recipe.schema import RlStage


def guide_unsolved(
    context: StageContext[RlStage], groups: Sequence[Group], key: tuple[object, ...], stage_step: int
) -> Metrics:
    """Guided rollouts for the groups in which none is correct, where the recipe has hints (`rlvr.controller.hints`)."""
    stage, session = context.stage, context.session
    hints = stage.rollout.hints
    if hints is None:
        return {}
    sampling, limit = session.sampling(stage, stage_step), stage.rollout.max_prompt_tokens
    return guide(
        groups,
        hints,
        stage.reward.correct_term,
        lambda prompt: hinted_prompt(prompt, hints, stage.task.template, session.tokenizer, limit),
        lambda prompts: session.rollouts.generate(prompts, hints.completions, sampling, (*key, "hints")),
        context.judge,
    )


def representation_bonus(
    learner: LearnerGroup,
    rollouts: Sequence[Rollout],
    groups: Tensor,
    config: RepresentationBonus,
    correct_term: str,
    seed: int,
) -> Tensor:
    """What is added to each rollout's reward, [N]: coefficient times its elliptical bonus. 2510.11686.

    A rollout's representation is the mean of the reference's last hidden states over its sampled tokens, over all of
    its segments, projected at random (`seed`).
    """
    sequences = [s for index, rollout in enumerate(rollouts) for s in to_sequences(rollout, index, 0.0)]
    sums = np.zeros((len(rollouts), learner.hidden_size))
    counts = np.zeros(len(rollouts))
    for sequence, total in zip(sequences, learner.representations(sequences), strict=True):
        sums[sequence.rollout] += total
        counts[sequence.rollout] += sequence.num_loss_tokens
    means = torch.from_numpy(sums / np.maximum(counts, 1)[:, None])
    features = means @ sparse_projection(learner.hidden_size, config.size, seed)
    bonus = elliptical_bonus(features, groups, config.ridge, config.leave_one_out)
    bonus = normalised_bonus(bonus, groups, config.normalise)
    correct = torch.tensor([is_correct(rollout, correct_term) for rollout in rollouts], dtype=torch.bool)
    allowed = allowed_bonus(correct, groups, config.unsolved, config.solved, config.wrong)
    return (config.coefficient * bonus * allowed).float()
