"""An independent implementation in plain torch: one sequence at a time, full logits, nothing shared with rlvr.

Written from the formulas: PPO's clipped surrogate with one denominator per mini-batch, Schulman's KL estimators,
AdamW, clipping by the global norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from rlvr.learner.batch import TrainSequence


@dataclass
class Trajectory:
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


def make_sequences(seed: int, count: int = 14, vocabulary: int = 40) -> list[TrainSequence]:
    """Rollouts of 4 to 40 tokens. Id 0 (pad and eos) occurs anywhere; the last rollout has two segments."""
    rng = np.random.default_rng(seed)
    sequences = []
    for index in range(count):
        prompt, completion = int(rng.integers(2, 8)), int(rng.integers(2, 33))
        length = prompt + completion
        token_ids = rng.integers(0, vocabulary, length)
        token_ids[rng.integers(0, length, 3)] = 0
        mask = np.arange(length) >= prompt
        mask[prompt + completion // 2] = index % 3 > 0  # a hole, as a tool's answer leaves
        sequences.append(
            TrainSequence(
                token_ids, mask, rng.normal(-3.6, 0.3, length), np.full(length, rng.normal()), min(index, count - 2)
            )
        )
    return sequences


def train(
    model_dir: str,
    batches: list[list[TrainSequence]],
    *,
    lr: float = 1e-4,
    eps: float = 1e-8,
    max_norm: float = 1.0,
    temperature: float = 1.0,
    aggregation: str = "token_mean",
    max_completion_tokens: int = 64,
    clip: tuple[float, float] = (0.2, 0.2),
    kl: tuple[str, float] | None = None,
    epochs: int = 1,
    mini_batches: list[list[int]] | None = None,
    adapt: Callable[[Any], Any] | None = None,
) -> Trajectory:
    """`mini_batches` are the rollouts of each optimizer step of an epoch; None: one step on all.

    `adapt` makes a peft model of the loaded one; the weights are then those of base and adapter merged by peft.
    """
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if adapt is not None:
        model = adapt(model)
    reference = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, eps=eps, weight_decay=0.0)
    result = Trajectory()
    for batch in batches:
        with torch.no_grad():
            old = [logprobs(model, s, temperature) for s in batch]
            ref = [logprobs(reference, s, temperature) for s in batch]
        for rollouts in (mini_batches or [[s.rollout for s in batch]]) * epochs:
            members = [i for i, s in enumerate(batch) if s.rollout in rollouts]
            lengths = {r: sum(batch[i].loss_mask.sum() for i in members if batch[i].rollout == r) for r in rollouts}
            lengths = {r: n for r, n in lengths.items() if n}
            total = 0.0
            optimizer.zero_grad()
            for i in members:
                if batch[i].rollout not in lengths:
                    continue
                new = logprobs(model, batch[i], temperature)
                advantage = torch.tensor(batch[i].advantage[batch[i].loss_mask])
                ratio = (new - old[i]).exp()
                surrogate = torch.min(ratio * advantage, ratio.clamp(1 - clip[0], 1 + clip[1]) * advantage)
                per_token = -surrogate
                if kl is not None:
                    d = ref[i] - new
                    per_token = per_token + kl[1] * {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - d - 1}[kl[0]]
                denominator = {
                    "token_mean": sum(lengths.values()),
                    "sequence_mean": len(lengths) * lengths[batch[i].rollout],
                    "sequence_sum_constant": len(lengths) * max_completion_tokens,
                }[aggregation]
                loss = per_token.sum() / denominator
                loss.backward()
                total += loss.item()
            result.losses.append(total)
            result.grad_norms.append(torch.nn.utils.clip_grad_norm_(trained, max_norm).item())
            optimizer.step()
    if adapt is not None:
        model = model.merge_and_unload()
    result.weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    return result


def logprobs(model: torch.nn.Module, sequence: TrainSequence, temperature: float) -> torch.Tensor:
    """Of the loss tokens, from full logits."""
    ids = torch.tensor(sequence.token_ids, dtype=torch.long)
    logits = model(input_ids=ids[None]).logits[0, :-1] / temperature
    taken = logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
    return taken[torch.tensor(sequence.loss_mask[1:])]
