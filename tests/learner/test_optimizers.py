"""Optimizers that save memory: masters of bfloat16 weights, 8-bit moments, offload to the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from learner_reference import make_sequences
from learner_setup import config, distance, inside, run_steps, same, weights_of

from rlvr.errors import RecipeError
from rlvr.learner.group import LearnerGroup
from rlvr.learner.optimizers import eight_bit_adamw
from rlvr.recipe.schema import KlConfig, ObjectiveConfig, OptimizerConfig

Groups = Callable[[int], LearnerGroup]
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None


def _masters(worker: Any) -> tuple[np.ndarray, list[torch.dtype]]:
    """The float32 weights of this rank, all in a row, and the dtypes of the model's parameters."""
    optimizer = worker.engine.engine.optimizer
    # Under ZeRO 3 the inner optimizer sees one of them at a time, and none between steps.
    shares = getattr(optimizer, "fp32_partitioned_groups_flat", None) or [
        share for group in optimizer.optimizer.param_groups for share in group["params"]
    ]
    masters = [share.detach().flatten().numpy().copy() for share in shares]
    assert {each.dtype for each in masters} == {np.dtype("float32")}
    return np.concatenate(masters), [parameter.dtype for parameter in worker.engine.policy.parameters()]


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_masters_add_up_updates_that_bfloat16_would_lose(groups: Groups, model_dir: str, stage: int) -> None:
    """A step of 1e-6 is below the rounding of nearly every weight (2^-9 of 0.1 is 2e-4); ten in float32 are 1e-5.

    Adam moves a weight by lr in each step as long as its gradient keeps its sign: the same batch sees to that.
    """
    group, batch = groups(1), make_sequences(0)
    learner = config(zero_stage=stage, dtype="bfloat16", optimizer=OptimizerConfig(lr=1e-6, max_grad_norm=1e6))
    group.setup(model_dir, learner, 10, 0, reference=False)
    before = weights_of(group)
    (start, dtypes), *_ = inside(group, _masters)
    assert set(dtypes) == {torch.bfloat16}
    run_steps(group, [batch] * 10)
    (end, _), *_ = inside(group, _masters)
    moved = np.abs(end - start)
    assert 8e-6 < np.quantile(moved[moved > 0], 0.5) <= 1.1e-5
    after = weights_of(group)
    still = sum(int((before[name] == after[name]).sum()) for name in before)
    total = sum(before[name].size for name in before)
    # The weights that the model computes with have hardly changed: without masters nothing would have been learnt.
    assert still > 0.9 * total


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "offload"), [(2, "optimizer"), (3, "optimizer"), (3, "parameters")])
def test_offload_trains_as_without(groups: Groups, model_dir: str, stage: int, offload: str) -> None:
    """On a CPU both sides step with torch's AdamW, so that what DeepSpeed moves about must come to the same bits.

    The reference, which the KL term reads, is offloaded with it.
    """
    found = []
    for chosen in ("none", offload):
        group = groups(2)
        learner = config(zero_stage=stage, offload=chosen, offload_reference=chosen != "none", dtype="bfloat16")
        group.setup(model_dir, learner, 8, 0, reference=True)
        run_steps(group, [make_sequences(0), make_sequences(1)], ObjectiveConfig(kl=KlConfig(coefficient=0.1)))
        found.append(weights_of(group))
    assert same(*found)


@pytest.mark.skipif(HAS_BITSANDBYTES, reason="bitsandbytes is installed")
def test_without_the_package_the_error_names_the_extra() -> None:
    with pytest.raises(RecipeError, match=r"kind=adamw_8bit: the package bitsandbytes is not installed.*rlvr\[bitsan"):
        eight_bit_adamw([], "adamw_8bit", "cpu", {})


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed (the extra of that name)")
@pytest.mark.parametrize(("ranks", "stage"), [(1, 2), (2, 1), (2, 2)])
def test_eight_bit_moments_follow_those_in_float32(
    groups: Groups, model_dir: str, tmp_path: Any, ranks: int, stage: int
) -> None:
    """Moments of one byte each; weights near those of float32 moments; a resumed run goes on bit for bit."""
    found, batches = {}, [make_sequences(seed) for seed in range(4)]
    group = groups(ranks)
    for kind in ("adamw", "adamw_8bit"):
        learner = config(zero_stage=stage, optimizer=OptimizerConfig(lr=1e-3, eps=1e-4, kind=kind))
        group.setup(model_dir, learner, 8, 0, reference=False)
        start = weights_of(group)
        run_steps(group, batches[:2])
        group.save(tmp_path / kind)
        run_steps(group, batches[2:])
        found[kind] = weights_of(group)
    moments = inside(group, _moment_dtypes)
    assert all(dtypes == {torch.uint8} for dtypes in moments)
    assert 0 < distance(found["adamw"], found["adamw_8bit"]) < 0.3 * distance(start, found["adamw"])
    group.setup(model_dir, learner, 8, 0, reference=False)
    group.load(tmp_path / "adamw_8bit")
    run_steps(group, batches[2:])
    assert same(found["adamw_8bit"], weights_of(group))


def _moment_dtypes(worker: Any) -> set[torch.dtype]:
    states = worker.engine.engine.optimizer.optimizer.state.values()
    return {state[name].dtype for state in states for name in ("state1", "state2")}
