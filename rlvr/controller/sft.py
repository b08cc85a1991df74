"""Supervised fine-tuning on demonstrations: the cold start before reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlvr.controller.context import StageContext
from rlvr.errors import RecipeError
from rlvr.learner.batch import TrainSequence, demonstration
from rlvr.recipe.schema import SftStage
from rlvr.records import Prompt
from rlvr.tasks.prompts import demonstration_ids


def train_sft(context: StageContext[SftStage], first_step: int) -> None:
    """Runs the stage's optimizer steps from `first_step` on (0 unless resumed)."""
    stage = context.stage
    demonstrations = dict(context.demonstrations)
    for stage_step in range(first_step, stage.steps):
        with context.clock.phase("learn"):
            batch = [demonstrations[prompt.id] for prompt in context.curriculum.draw(stage.batch_size)]
            learnt = context.session.learner.train_sft(batch)
        context.finish_step(stage_step, learnt)
        if context.stop_requested:
            return


def demonstration_sequences(
    prompts: Sequence[Prompt], solutions: Sequence[str], tokenizer: Any, max_completion_tokens: int
) -> dict[str, TrainSequence]:
    """Prompt, solution, eos as one training sequence per prompt id; the loss is on the solution and the eos.

    Raises RecipeError for a solution longer than a completion may be: the policy could never reproduce it.
    """
    sequences = {}
    for prompt, solution in zip(prompts, solutions, strict=True):
        completion = demonstration_ids(solution, tokenizer)
        if len(completion) > max_completion_tokens:
            raise RecipeError(
                f"rollout.max_completion_tokens={max_completion_tokens}: the demonstration of prompt {prompt.id} has "
                f"{len(completion)} tokens; raise the limit or shorten the demonstrations"
            )
        loss_mask = [False] * len(prompt.token_ids) + [True] * len(completion)
        sequences[prompt.id] = demonstration([*prompt.token_ids, *completion], loss_mask, rollout=0)
    return sequences
