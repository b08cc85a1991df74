"""What the learner trains on: sequences on the driver, the shard of a rank, the tensors of a micro-batch.

Legend: S = sequences of a shard, T = tokens of a sequence, N = tokens of a packed micro-batch, M = its loss tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rlvr.learner.attention import Documents


@dataclass(slots=True)
class TrainSequence:
    """One contiguous sequence that trains; every column is [T].

    `loss_mask[t]` is True where token t was sampled by the policy and trains; position 0 never does (nothing precedes
    it). `behavior_logprobs` are the engine's (nats), read at loss tokens only. `advantage` is per token. `rollout`
    numbers the rollout that the sequence belongs to: the segments of one rollout share it, and share its denominator.
    `target` is what a side model's example is compared with (`rlvr.learner.examples`); a policy has none.
    `group` numbers the prompt that the rollout answers. `columns` are further numbers per token, `facts` per rollout,
    for the parts of an objective that read them; a sequence that lacks one that others have counts as 0 there.
    """

    token_ids: np.ndarray
    loss_mask: np.ndarray
    behavior_logprobs: np.ndarray
    advantage: np.ndarray
    rollout: int
    target: float = 0.0
    group: int = 0
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token_ids = np.asarray(self.token_ids, dtype=np.int32)
        self.loss_mask = np.asarray(self.loss_mask, dtype=bool)
        self.behavior_logprobs = np.asarray(self.behavior_logprobs, dtype=np.float32)
        self.advantage = np.asarray(self.advantage, dtype=np.float32)
        self.columns = {name: np.asarray(column, dtype=np.float32) for name, column in self.columns.items()}
        every = (self.token_ids, self.loss_mask, self.behavior_logprobs, self.advantage, *self.columns.values())
        lengths = {len(column) for column in every}
        assert len(lengths) == 1, f"columns of a sequence differ in length: {sorted(lengths)}"
        assert not self.loss_mask[:1].any(), "the first token of a sequence has no context to be predicted from"

    @property
    def num_loss_tokens(self) -> int:
        return int(self.loss_mask.sum())


def demonstration(token_ids: Sequence[int], loss_mask: Sequence[bool], rollout: int) -> TrainSequence:
    """A sequence for supervised fine-tuning: no engine sampled it, and it has no advantage."""
    zeros = np.zeros(len(token_ids), dtype=np.float32)
    return TrainSequence(np.asarray(token_ids), np.asarray(loss_mask), zeros, zeros, rollout)


@dataclass(slots=True)
class Shard:
    """The sequences of one rank, as flat columns so that Ray moves a few arrays and not a thousand.

    Sequence i occupies offsets[i]:offsets[i + 1]; `weights[i]` is the weight of each of its loss tokens in its
    mini-batch; `rollouts[i]`, `targets[i]`, `groups[i]` and `facts[name][i]` are the sequence's own;
    `mini_batches[u][k]` lists the sequences of micro-batch k of optimizer step u. Every rank has the same number of
    micro-batches at each step; an empty one is a dummy.
    """

    token_ids: np.ndarray
    loss_mask: np.ndarray
    behavior_logprobs: np.ndarray
    advantage: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    rollouts: np.ndarray
    targets: np.ndarray
    mini_batches: list[list[list[int]]]
    groups: np.ndarray
    columns: dict[str, np.ndarray]
    facts: dict[str, np.ndarray]


def make_shard(
    sequences: Sequence[TrainSequence], weights: Sequence[float], mini_batches: list[list[list[int]]]
) -> Shard:
    """Gathers the sequences that `mini_batches` names (by their position in `sequences`) and renumbers them."""
    used = sorted({index for steps in mini_batches for micro in steps for index in micro})
    local = {index: position for position, index in enumerate(used)}
    rows = [sequences[index] for index in used]

    def column(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([getattr(row, name) for row in rows]) if rows else np.zeros(0, dtype=dtype)

    def extra(name: str) -> np.ndarray:
        found = [row.columns.get(name, np.zeros(len(row.token_ids), dtype=np.float32)) for row in rows]
        return np.concatenate(found) if rows else np.zeros(0, dtype=np.float32)

    # Over all sequences, so that every rank has the same names, in the same order: collectives follow them.
    names = sorted({name for sequence in sequences for name in sequence.columns})
    facts = sorted({name for sequence in sequences for name in sequence.facts})
    return Shard(
        token_ids=column("token_ids", np.int32),
        loss_mask=column("loss_mask", bool),
        behavior_logprobs=column("behavior_logprobs", np.float32),
        advantage=column("advantage", np.float32),
        offsets=np.cumsum([0, *(len(row.token_ids) for row in rows)]),
        weights=np.asarray([weights[index] for index in used], dtype=np.float64),
        rollouts=np.asarray([row.rollout for row in rows], dtype=np.int64),
        targets=np.asarray([row.target for row in rows], dtype=np.float64),
        mini_batches=[[[local[index] for index in micro] for micro in steps] for steps in mini_batches],
        groups=np.asarray([row.group for row in rows], dtype=np.int64),
        columns={name: extra(name) for name in names},
        facts={name: np.asarray([row.facts.get(name, 0.0) for row in rows], dtype=np.float64) for name in facts},
    )


@dataclass(slots=True)
class MicroBatch:
    """One forward and backward: sequences back to back in a single row, and what their loss tokens need.

    The last token of each sequence predicts nothing and is not fed. `loss_positions` [M] are the positions in the
    row whose NEXT token trains; `targets`, `weights`, `advantages`, `behavior_logprobs` are [M] in that order.
    `num_loss_tokens` is M, or 0 for a dummy: a dummy has one token of weight 0, so that its loss is attached to every
    parameter (ZeRO's collectives stay aligned) while gradient and metrics are those of nothing.
    `rows` are the shard's sequence numbers in the order in which their tokens stand here, `row_tokens` the loss
    tokens of each. `rollouts` [R] are the rollouts' numbers in the batch, `index` [M] says to which of them a loss
    token belongs (a dummy: one of its own, without a number). `columns` are those of the sequences, [M] each.

    `old_logprobs`, `entropies`, `ref_logprobs` and `kl_weights` (factors of the KL) [M] are filled by forward passes,
    `token_scale` [M] (what the token weights of the objective multiply a token's policy loss with) and `coefficients`
    [M] (the gradient of a group-level loss with respect to a token's logprob) from them, each where the objective needs
    it (`rlvr.learner.prepass`); so is `mismatch_means` (the mean weight of each mismatch correction in the mini-batch).
    """

    input_ids: Tensor
    position_ids: Tensor
    documents: Documents
    loss_positions: Tensor
    targets: Tensor
    weights: Tensor
    advantages: Tensor
    behavior_logprobs: Tensor
    num_loss_tokens: int
    rows: list[int] = field(default_factory=list)
    row_tokens: list[int] = field(default_factory=list)
    rollouts: list[int] = field(default_factory=list)
    index: Tensor | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)
    old_logprobs: Tensor | None = None
    entropies: Tensor | None = None
    ref_logprobs: Tensor | None = None
    kl_weights: Tensor | None = None
    token_scale: Tensor | None = None
    mismatch_means: Tensor | None = None
    coefficients: Tensor | None = None


def collate(shard: Shard, rows: Sequence[int], device: torch.device | str) -> MicroBatch:
    """The tensors of one micro-batch; no rows make a dummy."""
    if not rows:
        return _dummy(device, shard.columns)
    # Longest first: documents of similar length stand next to each other and share attention calls.
    rows = sorted(rows, key=lambda i: shard.offsets[i] - shard.offsets[i + 1])
    starts, ends = shard.offsets[list(rows)], shard.offsets[[i + 1 for i in rows]]
    lengths = (ends - starts - 1).tolist()
    assert min(lengths) > 0, "a sequence of one token has nothing to predict and must not be planned"
    inputs = np.concatenate([np.arange(start, end - 1) for start, end in zip(starts, ends, strict=True)])
    positions = np.flatnonzero(shard.loss_mask[inputs + 1])
    targets = inputs[positions] + 1
    row_tokens = [int(shard.loss_mask[start:end].sum()) for start, end in zip(starts, ends, strict=True)]
    numbers = shard.rollouts[list(rows)].tolist()
    rollouts = {rollout: position for position, rollout in enumerate(dict.fromkeys(numbers))}

    def tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values).to(device=device, dtype=dtype)

    return MicroBatch(
        input_ids=tensor(shard.token_ids[inputs], torch.long)[None],
        position_ids=tensor(inputs - np.repeat(starts, lengths), torch.long)[None],
        documents=Documents.of_lengths(lengths, device),
        loss_positions=tensor(positions, torch.long),
        targets=tensor(shard.token_ids[targets], torch.long),
        weights=tensor(np.repeat(shard.weights[list(rows)], row_tokens), torch.float32),
        advantages=tensor(shard.advantage[targets], torch.float32),
        behavior_logprobs=tensor(shard.behavior_logprobs[targets], torch.float32),
        num_loss_tokens=len(targets),
        rows=list(rows),
        row_tokens=row_tokens,
        rollouts=list(rollouts),
        index=tensor(np.repeat([rollouts[number] for number in numbers], row_tokens), torch.long),
        columns={name: tensor(column[targets], torch.float32) for name, column in shard.columns.items()},
    )


def sequence_index(batch: MicroBatch) -> Tensor:
    """[M]: which rollout of the micro-batch, numbered from 0, each loss token belongs to."""
    assert batch.index is not None, "this micro-batch was not collated from a shard"
    return batch.index


def _dummy(device: torch.device | str, columns: Iterable[str]) -> MicroBatch:
    index, zero = torch.zeros(1, dtype=torch.long, device=device), torch.zeros(1, device=device)
    return MicroBatch(
        input_ids=index[None],
        position_ids=index[None],
        documents=Documents.of_lengths([1], device),
        loss_positions=index,
        targets=index,
        weights=zero,
        advantages=zero,
        behavior_logprobs=zero,
        num_loss_tokens=0,
        index=index,
        columns=dict.fromkeys(columns, zero),
    )
