"""Hindsight: completions train under the instruction that they fulfilled, not under the one that was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlvr.learner.batch import TrainSequence
from rlvr.learner.imitation_losses import RELABELLED
from rlvr.metrics import Metrics
from rlvr.recipe.relabel import Relabel
from rlvr.recipe.schema import TemplateConfig
from rlvr.records import Group
from rlvr.tasks.prompts import encode

INSTRUCTED = "instructed"
"""Fact of a rollout: 1 where its prompt holds the instruction that it fulfilled, 0 where it holds another."""


def relabel(
    sequences: Sequence[TrainSequence],
    groups: Sequence[Group],
    config: Relabel,
    template: TemplateConfig,
    tokenizer: Any,
    contrast: bool = False,
) -> tuple[list[TrainSequence], Metrics]:
    """The sequences with `config.asked` replaced in their prompts by what their rewards say. HIR (2302.05206).

    The completion's tokens stay those that were sampled. A reward that no label covers, and a prompt that does not hold
    the text, leave a sequence as it was. With `contrast` each completion is a group of its own: under its instruction,
    and once more under every other.
    """
    texts = {tuple(group.prompt.token_ids): group.prompt.text for group in groups}
    labels = sorted(config.labels, key=lambda label: -label.min_reward)
    instructions = list(dict.fromkeys([config.asked, *(label.text for label in labels)]))
    results, changed = [], 0
    number = 1 + max((sequence.rollout for sequence in sequences), default=-1)
    for completion, sequence in enumerate(sequences):
        start = int(np.argmax(sequence.loss_mask))
        text = texts.get(tuple(sequence.token_ids[:start].tolist()), "")
        fulfilled = next((x.text for x in labels if sequence.facts["reward"] >= x.min_reward), config.asked)
        here = [text.replace(config.asked, instruction) for instruction in (fulfilled, *instructions)]
        right = sequence
        if here[0] != text:
            (prompt,) = encode(here[:1], template, tokenizer)
            right = _with_prompt(sequence, start, prompt)
            changed += 1
        results.append(right)
        if not contrast:
            continue
        right.group, right.facts[INSTRUCTED] = completion, 1.0
        # Each other wording once, and none where the prompt holds no instruction.
        others = [other for other in dict.fromkeys(here[1:]) if other != here[0]]
        for prompt in encode(others, template, tokenizer) if others else ():
            other = _with_prompt(sequence, start, prompt)
            other.rollout, other.group, other.facts[INSTRUCTED] = number, completion, 0.0
            number += 1
            results.append(other)
    return results, {"relabelled": (float(changed), float(len(sequences)))}


def _with_prompt(sequence: TrainSequence, start: int, prompt: Sequence[int]) -> TrainSequence:
    def column(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(len(prompt), dtype=values.dtype), values[start:]])

    mask = column(sequence.loss_mask)
    columns = {name: column(values) for name, values in sequence.columns.items()}
    changed = TrainSequence(
        np.concatenate([np.asarray(prompt, dtype=np.int32), sequence.token_ids[start:]]),
        mask,
        column(sequence.behavior_logprobs),
        column(sequence.advantage),
        sequence.rollout,
        columns=columns | {RELABELLED: mask.astype(np.float32)},
    )
    changed.group, changed.facts = sequence.group, dict(sequence.facts)
    return changed
