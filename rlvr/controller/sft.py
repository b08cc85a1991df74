"""Supervised fine-tuning on demonstrations: the cold start before reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlvr.controller.context import StageContext
from rlvr.errors import RecipeError
from rlvr.learner.batch import TrainSequence, demonstration
from rlvr.recipe.schema import Scheme, SftStage, TemplateConfig
from rlvr.records import Prompt
from rlvr.rollout.conversation import Conversation
from rlvr.tasks.prompts import demonstration_ids


def train_sft(context: StageContext[SftStage], first_step: int) -> None:
    """Runs the stage's optimizer steps from `first_step` on (0 unless resumed)."""
    stage = context.stage
    demonstrations = dict(context.demonstrations)
    for stage_step in range(first_step, stage.steps):
        context.begin_update()
        with context.clock.phase("learn"):
            batch = [demonstrations[prompt.id] for prompt in context.curriculum.draw(stage.batch_size)]
            learnt = context.session.learner.train_sft(batch)
        context.finish_step(stage_step, learnt)
        if context.stop_requested:
            return


def demonstration_sequences(
    prompts: Sequence[Prompt],
    solutions: Sequence[str | list[str]],
    tokenizer: Any,
    max_completion_tokens: int,
    template: TemplateConfig,
    scheme: Scheme,
) -> dict[str, TrainSequence]:
    """Prompt, solution, eos as one training sequence per prompt id; the loss is on the solution and the eos.

    A solution may be a conversation [action, observation, ..., action]: then each action ends with eos, and the
    observations, set as in rollouts of the scheme, are not in the loss. Raises RecipeError for a solution longer
    than a completion may be: the policy could never reproduce it.
    """
    sequences = {}
    for prompt, solution in zip(prompts, solutions, strict=True):
        if isinstance(solution, str):
            completion = demonstration_ids(solution, tokenizer)
            loss_mask = [True] * len(completion)
        else:
            completion, loss_mask = _conversation_ids(
                prompt, solution, tokenizer, Conversation(tokenizer, template, scheme)
            )
        if len(completion) > max_completion_tokens:
            raise RecipeError(
                f"rollout.max_completion_tokens={max_completion_tokens}: the demonstration of prompt {prompt.id} has "
                f"{len(completion)} tokens; raise the limit or shorten the demonstrations"
            )
        loss_mask = [False] * len(prompt.token_ids) + loss_mask
        sequences[prompt.id] = demonstration([*prompt.token_ids, *completion], loss_mask, rollout=0)
    return sequences


def _conversation_ids(
    prompt: Prompt, parts: Sequence[str], tokenizer: Any, conversation: Conversation
) -> tuple[list[int], list[bool]]:
    """Token ids after the prompt, and which of them are the policy's."""
    if len(parts) % 2 == 0:
        raise RecipeError(
            f"the demonstration of prompt {prompt.id} has {len(parts)} parts; begin and end with an action"
        )
    question = prompt.question if isinstance(prompt.question, str) else list(prompt.question)
    opened = conversation.open(question)
    assert opened == list(prompt.token_ids), (prompt.id, opened, prompt.token_ids)
    completion: list[int] = []
    loss_mask: list[bool] = []
    for action, observation in zip(parts[::2], [*parts[1::2], None], strict=True):
        said = demonstration_ids(action, tokenizer)
        completion += said
        loss_mask += [True] * len(said)
        if observation is not None:
            answer = conversation.extend([*opened, *completion], action, observation)
            if not answer.extends:
                raise RecipeError(
                    f"the demonstration of prompt {prompt.id}: what was said before is rewritten between its turns (by "
                    "the chat template, or history=rebuild), and one sequence cannot show that; give one action per row"
                )
            completion += answer.token_ids
            loss_mask += [False] * len(answer.token_ids)
    return completion, loss_mask
