"""The largest batch that a stage may bring, made up: what does not fit should fail before the first step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rlvr.learner.batch import Shard, TrainSequence, make_shard
from rlvr.recipe.schema import LearnerConfig

KNOBS = (
    "lower learner.max_tokens_per_micro_batch, rollout.max_prompt_tokens or rollout.max_completion_tokens, set "
    "learner.gradient_checkpointing=true, raise learner.zero_stage, set learner.offload, or use more learner ranks"
)


def worst_lengths(longest: int, most_sequences: int, learner: LearnerConfig) -> list[int]:
    """Lengths of the sequences that fill a micro-batch: as many of the longest as fit, then one with what is left.

    longest: tokens of prompt and completion together; most_sequences: those that a rank may get for one optimizer step.
    """
    fed = longest - 1  # The last token of a sequence is never fed.
    if not learner.packing or fed > learner.max_tokens_per_micro_batch:
        return [longest]
    count = min(learner.max_tokens_per_micro_batch // fed, most_sequences)
    rest = learner.max_tokens_per_micro_batch - count * fed
    return [longest] * count + [rest + 1] * (0 < rest < fed and count < most_sequences)


def worst_shard(
    longest: int, most_sequences: int, learner: LearnerConfig, columns: Iterable[str], facts: Iterable[str]
) -> Shard:
    """A rank's share of two optimizer steps: a tiny one, after which the optimizer has its state, then the worst.

    The worst has two micro-batches where a rank may get as many, since the second finds the gradients of the first.
    Every token but the first of a sequence trains: prompts may be short, and then logprobs and hidden states are many.
    """
    lengths = worst_lengths(longest, most_sequences, learner)
    steps = [[[2, 2]], [lengths] * min(2, -(-most_sequences // len(lengths)))]
    sequences: list[TrainSequence] = []
    mini_batches: list[list[list[int]]] = []
    for step in steps:
        mini_batches.append([])
        for micro in step:
            mini_batches[-1].append(list(range(len(sequences), len(sequences) + len(micro))))
            sequences += [_sequence(length, len(sequences) + i, columns, facts) for i, length in enumerate(micro)]
    weights = [1.0 / sum(map(sum, steps[-1]))] * len(sequences)
    return make_shard(sequences, weights, mini_batches)


def shape_of(shard: Shard) -> str:
    """The worst micro-batch in words."""
    rows = shard.mini_batches[-1][0]
    lengths = [int(shard.offsets[i + 1] - shard.offsets[i]) for i in rows]
    count = f"{len(rows):,} sequence{'s' * (len(rows) > 1)}"
    return f"a micro-batch of {sum(lengths):,} tokens ({count}, the longest of {max(lengths):,})"


def _sequence(length: int, number: int, columns: Iterable[str], facts: Iterable[str]) -> TrainSequence:
    zeros = np.zeros(length, dtype=np.float32)
    mask = np.ones(length, dtype=bool)
    mask[0] = False
    # Both signs of advantage and reward: a loss may look at one of them only.
    sign = 1.0 if number % 2 == 0 else -1.0
    return TrainSequence(
        np.arange(length) % 2,
        mask,
        zeros,
        np.full(length, sign, dtype=np.float32),
        rollout=number,
        columns=dict.fromkeys(columns, zeros),
        facts=dict.fromkeys(facts, 0.0) | {"reward": float(sign > 0)},
    )
