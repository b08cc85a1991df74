"""Losses of whole groups on two processes: every completion has the coefficient it has on one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rlvr.learner.batch import TrainSequence, collate, make_shard
from rlvr.learner.linearised import linearise
from rlvr.recipe.preference_losses import SECTIONS

NAMES = [section.model_fields["name"].annotation.__args__[0] for section in SECTIONS]  # type: ignore[union-attr]


def sequences() -> list[TrainSequence]:
    """Four prompts of three rollouts, the groups interleaved; rollout 5 has two segments, one for each rank."""
    generator = np.random.default_rng(4)
    made = []
    for rollout in range(12):
        reward = float(generator.integers(0, 3)) / 2
        for _ in range(2 if rollout == 5 else 1):
            length = int(generator.integers(3, 9))
            row = TrainSequence(
                np.arange(length), np.arange(length) >= 2, -generator.random(length), np.zeros(length), rollout
            )
            row.group, row.facts = rollout % 4, {"reward": reward}
            made.append(row)
    return made


def coefficients(section: Any, steps: list[list[list[int]]]) -> tuple[float, dict[int, float]]:
    """(the loss, sequence -> coefficient) of this process's micro-batches `steps[0]`."""
    rows = sequences()
    used = sorted({index for micro in steps[0] for index in micro})
    shard = make_shard(rows, [0.1] * len(rows), steps)
    micro_batches = [collate(shard, micro, "cpu") for micro in shard.mini_batches[0]]
    logprobs = []
    for batch in micro_batches:
        batch.old_logprobs, batch.ref_logprobs = batch.behavior_logprobs * 0.9, batch.behavior_logprobs * 1.1
        logprobs.append(batch.behavior_logprobs.clone())
    loss = float(linearise(micro_batches, logprobs, shard, section).loss)
    found = {}
    for batch in micro_batches:
        if batch.num_loss_tokens:
            assert batch.coefficients is not None
            for row, part in zip(batch.rows, batch.coefficients.split(batch.row_tokens), strict=True):
                found[used[row]] = float(part[0])
    return loss, found


def work(rank: int, directory: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=2)
    # Unequal shares, and a dummy on the rank that has less.
    steps = [[[0, 2, 4], [6, 7, 8], [9, 10, 12]]] if rank == 0 else [[[1, 3], [5, 11], []]]
    results = {name: coefficients(section(name=name), steps) for name, section in zip(NAMES, SECTIONS, strict=True)}  # type: ignore[call-arg]
    torch.save(results, f"{directory}/rank{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[float, dict[int, float]]]]:
    directory = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(directory),), nprocs=2)
    return [torch.load(Path(directory) / f"rank{rank}") for rank in range(2)]


@pytest.mark.parametrize(("name", "section"), list(zip(NAMES, SECTIONS, strict=True)))
def test_two_ranks_have_the_gradient_of_one(ranks, name, section):  # type: ignore[no-untyped-def]
    loss, whole = coefficients(section(name=name), [[list(range(13))]])
    parts = [rank[name] for rank in ranks]
    assert [part[0] for part in parts] == pytest.approx([loss, loss], abs=1e-12)
    joined = parts[0][1] | parts[1][1]
    assert len(joined) == 13
    assert joined == pytest.approx(whole, abs=1e-7)
