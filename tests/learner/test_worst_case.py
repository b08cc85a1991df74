"""The trial of the worst batch: its shape, that it leaves no trace, and what it says when memory runs out."""

from __future__ import annotations

import resource
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from learner_reference import make_sequences
from learner_setup import config, inside, run_steps, same, weights_of

from rlvr.errors import RecipeError
from rlvr.learner.group import LearnerGroup
from rlvr.learner.worst_case import shape_of, worst_lengths, worst_shard
from rlvr.recipe.schema import KlConfig, ObjectiveConfig

Groups = Callable[[int], LearnerGroup]


def test_a_micro_batch_is_filled_with_the_longest_sequences_and_a_rest() -> None:
    learner = config(max_tokens_per_micro_batch=100)
    # 31 ids feed 30 tokens: three are 90, and 10 more come of 11 ids.
    assert worst_lengths(31, 100, learner) == [31, 31, 31, 11]
    assert worst_lengths(31, 2, learner) == [31, 31]
    assert worst_lengths(26, 100, learner) == [26] * 4
    # One over the budget gets a micro-batch alone, as in `packing.pack`; so does each without packing.
    assert worst_lengths(500, 100, learner) == [500]
    assert worst_lengths(31, 100, config(packing=False)) == [31]


def test_the_worst_step_has_two_micro_batches_where_the_mini_batch_has() -> None:
    learner = config(max_tokens_per_micro_batch=100)
    assert [len(step) for step in worst_shard(31, 100, learner, [], []).mini_batches] == [1, 2]
    assert [len(step) for step in worst_shard(31, 3, learner, [], []).mini_batches] == [1, 1]
    shard = worst_shard(31, 100, learner, ["mark"], [])
    assert shape_of(shard) == "a micro-batch of 104 tokens (4 sequences, the longest of 31)"
    assert all(
        not shard.loss_mask[start] and shard.loss_mask[start + 1 : end].all() for start, end in pairwise(shard.offsets)
    )


def _state(worker: Any) -> dict[str, Any]:
    """What an update changes, of this rank: optimizer state, counts, random numbers."""
    engine = worker.engine.engine
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    states = [{k: torch.as_tensor(v).float().cpu().numpy() for k, v in s.items()} for s in inner.state.values()]
    counts = (worker.engine.num_steps, engine.global_steps, engine.global_samples, engine.skipped_steps)
    return {"states": states, "counts": counts, "random": torch.get_rng_state().numpy()}


def _states(group: LearnerGroup) -> list[dict[str, Any]]:
    return inside(group, _state)


@pytest.mark.parametrize(
    ("ranks", "stage", "dtype"),
    [
        (2, 2, "float32"),
        pytest.param(1, 0, "float32", marks=pytest.mark.slow),
        pytest.param(2, 3, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_a_trial_leaves_no_trace(
    groups: Groups, make_model: Callable[..., str], ranks: int, stage: int, dtype: str
) -> None:
    """R21: the worst step before step 1 changes neither weights nor optimizer, nor what later steps come to."""
    objective = ObjectiveConfig(kl=KlConfig(coefficient=0.1))
    learner = config(zero_stage=stage, dtype=dtype, epochs=2, mini_batches=2, max_tokens_per_micro_batch=128)
    group, model, batch = groups(ranks), make_model(), make_sequences(0)
    shard = worst_shard(64, 20, learner, [], [])
    trial = ("train_rl", shard, objective, 1.0, 0, False)

    group.setup(model, learner, 8, 0, reference=True)
    run_steps(group, [batch, batch], objective)
    plain, plain_states = weights_of(group), _states(group)

    group.setup(model, learner, 8, 0, reference=True)
    before, start = weights_of(group), _states(group)
    peaks = group.try_worst_case(*trial)
    assert len(peaks) == ranks
    assert all(peak.host_gb > 0.05 for peak in peaks)
    assert same(before, weights_of(group))
    for found, expected in zip(_states(group), start, strict=True):
        assert found["counts"] == expected["counts"] == (0, 0, 0, 0)
        assert np.array_equal(found["random"], expected["random"])
        # The optimizer's buffers exist now, as they will at the first step, and hold what it starts from.
        assert found["states"]
        assert all(not values.any() for state in found["states"] for values in state.values())
    run_steps(group, [batch], objective)
    middle, middle_states = weights_of(group), _states(group)
    assert not same(before, middle)
    # In the middle of a stage, as after a resume, the optimizer remembers.
    group.try_worst_case(*trial)
    assert same(middle, weights_of(group))
    assert _equal(_states(group), middle_states)
    run_steps(group, [batch], objective)
    assert same(plain, weights_of(group))
    assert _equal(_states(group), plain_states)


def _equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    return all(
        a["counts"] == b["counts"]
        and len(a["states"]) == len(b["states"])
        and all(np.array_equal(s[k], t[k]) for s, t in zip(a["states"], b["states"], strict=True) for k in t)
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.slow
def test_what_does_not_fit_ends_the_run_with_the_shape_and_the_knobs(model_dir: str) -> None:
    """R21: memory that does not suffice shows before step 1. The address space of a real rank is bounded here."""
    from learner_setup import start_group

    group = start_group(1)
    try:
        learner = config(max_tokens_per_micro_batch=400_000)
        group.setup(model_dir, learner, 8, 0, reference=False)
        shard = worst_shard(128, 1 << 20, learner, [], [])
        pid = group.pids()[0]
        with open(f"/proc/{pid}/status") as status:
            size = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize:"))
        resource.prlimit(pid, resource.RLIMIT_AS, (size + (256 << 20), resource.RLIM_INFINITY))
        with pytest.raises(RecipeError) as error:
            group.try_worst_case("train_rl", shard, ObjectiveConfig(), 1.0, 0, False)
        text = str(error.value)
        assert "micro-batch of 403,150 tokens (3,150 sequences, the longest of 128)" in text
        assert "learner.max_tokens_per_micro_batch" in text
        assert "learner.gradient_checkpointing" in text
        assert "learner.offload" in text
    finally:
        group.close()
