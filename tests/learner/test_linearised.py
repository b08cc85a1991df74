"""Losses of whole groups in pieces: value and gradient of the loss as a whole, however rollouts are spread."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlvr.learner.batch import MicroBatch, TrainSequence, collate, make_shard, sequence_index
from rlvr.learner.linearised import _ordered, linear_form, linearise
from rlvr.objectives.group_losses import GROUP_LOSSES

LENGTHS = (3, 2, 4, 1, 2)
ROLLOUTS = (0, 1, 2, 3, 2)  # the last sequence is a second segment of rollout 2
REWARDS = (1.0, 0.0, 0.5, 1.0, 0.5)
SPLITS = [[[0, 1, 2, 3, 4]], [[0], [1, 3], [2, 4]], [[4, 3], [], [2], [1, 0]]]


def sequences() -> list[TrainSequence]:
    rng = np.random.default_rng(0)
    rows = []
    for length, rollout, reward in zip(LENGTHS, ROLLOUTS, REWARDS, strict=True):
        mask = np.arange(length + 2) >= 2
        zeros = np.zeros(length + 2)
        rows.append(
            TrainSequence(
                rng.integers(0, 9, length + 2),
                mask,
                -rng.random(length + 2),
                zeros,
                rollout,
                group=rollout // 2,
                facts={"reward": reward},
            )
        )
    return rows


def spread(sums, lengths, rewards, groups, config, facts):
    """Couples everything: the variance of the mean log ratios, weighted by rewards, per group."""
    means = sums / lengths
    total = sums.new_zeros(())
    for group in groups.unique():
        own = groups == group
        total = total + ((means[own] - means[own].mean()) * (rewards[own] - rewards[own].mean())).sum() ** 2
    return total + 0.1 * (sums * facts["reward"]).sin().sum()


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setitem(GROUP_LOSSES, "spread", spread)


def anchored(batch: MicroBatch, logprobs: torch.Tensor) -> torch.Tensor:
    return logprobs - batch.behavior_logprobs


@pytest.mark.parametrize("split", SPLITS)
def test_pieces_add_up_to_the_whole(split):
    shard = make_shard(sequences(), [1.0] * 5, [split])
    batches = [collate(shard, rows, "cpu") for rows in split]
    torch.manual_seed(0)
    table = torch.randn(9, dtype=torch.float64) - 2  # the "model": a logprob for each token id
    config = SimpleNamespace(name="spread", anchor="engine")
    ours, written = table.clone().requires_grad_(), table.clone().requires_grad_()
    loss, ordered, num_pairs = linearise(batches, [table[batch.targets] for batch in batches], shard, config)
    sum(linear_form(batch, ours[batch.targets]) for batch in batches).backward()

    sums, lengths = [], []
    for rollout in range(4):
        parts = [s for s in sequences() if s.rollout == rollout]
        ids = torch.tensor(np.concatenate([s.token_ids[s.loss_mask] for s in parts]), dtype=torch.long)
        base = torch.tensor(np.concatenate([s.behavior_logprobs[s.loss_mask] for s in parts])).double()
        sums.append((written[ids] - base).sum())
        lengths.append(float(len(ids)))
    rewards = torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1])
    expected = spread(torch.stack(sums), torch.tensor(lengths).double(), rewards, groups, config, {"reward": rewards})
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad, written.grad, rtol=1e-5, atol=1e-6)
    # Rewards differ within both groups: rollout 0 beats 1, rollout 3 beats 2.
    assert (float(ordered), num_pairs) == (float(sums[0] > sums[1]) + float(sums[3] > sums[2]), 2)


def test_ordered_pairs_by_hand():
    """Sums 2 > 1 is in order, 0 = 0 a tie, -1 > -3 is the wrong way round; per token 2 / 4 < 1 / 1 is so too."""
    sums, lengths = torch.tensor([2.0, 1.0, 0.0, 0.0, -3.0, -1.0]), torch.tensor([4.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    rewards, groups = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1, 2, 2])
    ordered, num_pairs = _ordered(sums, lengths, rewards, groups, SimpleNamespace(name="dpo"))
    assert (float(ordered), num_pairs) == (1.5, 3)
    assert float(_ordered(sums, lengths, rewards, groups, SimpleNamespace(name="ipo", per_token=True))[0]) == 0.5
    assert float(_ordered(sums, lengths, rewards, groups, SimpleNamespace(name="rrhf"))[0]) == 0.5
    assert _ordered(sums, lengths, torch.ones(6), groups, SimpleNamespace(name="dpo"))[1] == 0


def test_segments_of_a_rollout_share_an_index():
    shard = make_shard(sequences(), [1.0] * 5, [[[0, 1, 2, 3, 4]]])
    batch = collate(shard, [0, 1, 2, 3, 4], "cpu")
    numbers = torch.tensor(batch.rollouts)[sequence_index(batch)]
    assert torch.bincount(numbers).tolist() == [3, 2, 6, 1]


def test_columns_and_facts_travel_and_default_to_zero():
    rows = sequences()
    rows[1].columns = {"values": np.arange(4, dtype=np.float32)}
    rows[2].facts = {}
    shard = make_shard(rows, [1.0] * 5, [[[0, 1, 2, 3, 4]]])
    batch = collate(shard, [1, 0], "cpu")
    assert shard.facts["reward"].tolist() == [1.0, 0.0, 0.0, 1.0, 0.5]
    assert batch.columns["values"].tolist() == [0, 0, 0, 2, 3]  # the longer sequence stands first
    assert collate(shard, [], "cpu").columns["values"].tolist() == [0]
