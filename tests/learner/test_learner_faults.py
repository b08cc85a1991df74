"""What must not happen: a NaN that is stepped or sent, ranks that wait for each other, a death that goes unnamed."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from learner_reference import make_sequences, train
from learner_setup import config, distance, run_steps, same, start_group, weights_of

from rlvr.errors import RecipeError, RunStopped, WorkerDied
from rlvr.learner.batch import TrainSequence
from rlvr.recipe.schema import OptimizerConfig
from rlvr.transfer.buckets import plan_buckets

BATCH = make_sequences(0)
POLICIES = [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32")] + [(s, "bfloat16") for s in (0, 1, 2, 3)]


def poisoned(value: float) -> list[TrainSequence]:
    """The batch with one advantage replaced: of a short sequence, so that only one rank sees it."""
    batch = make_sequences(0)
    batch[3].advantage[:] = value
    return batch


@pytest.mark.parametrize(("stage", "dtype"), POLICIES)
def test_non_finite_step_leaves_no_trace(groups, model_dir, stage, dtype):  # type: ignore[no-untyped-def]
    """R18: NaN loss, then a gradient that overflows from a finite loss; the next step is as if they had not been."""
    group = groups(2)
    learner = config(
        zero_stage=stage, dtype=dtype, max_tokens_per_micro_batch=64, optimizer=OptimizerConfig(lr=1e-2, warmup_steps=9)
    )
    group.setup(model_dir, learner, 9, 0, reference=False)
    run_steps(group, [BATCH])
    before = weights_of(group)
    for value in (float("nan"), float("inf"), 3e38):
        step = run_steps(group, [poisoned(value)])[0]
        assert step["skipped_steps"] == 1
        assert "loss" not in step
        assert "grad_norm" not in step
        assert same(weights_of(group), before)
    after = run_steps(group, [BATCH])[0]
    assert after["skipped_steps"] == 0
    poisoned_weights = weights_of(group)
    group.setup(model_dir, learner, 9, 0, reference=False)
    clean = run_steps(group, [BATCH, BATCH])[1]
    assert (after["loss"], after["grad_norm"], after["lr"]) == (clean["loss"], clean["grad_norm"], clean["lr"])
    assert same(weights_of(group), poisoned_weights)


@pytest.mark.parametrize("stage", [2, 3])
def test_non_finite_weight_is_not_stepped_sent_or_saved(groups, model_dir, tmp_path, stage):  # type: ignore[no-untyped-def]
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir)
    model.model.layers[1].mlp.down_proj.weight.data[3, 5] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    group = groups(2)
    group.setup(tmp_path / "broken", config(zero_stage=stage), 9, 0, reference=False)
    assert run_steps(group, [BATCH])[0]["skipped_steps"] == 1
    first = plan_buckets(group.parameter_specs(), "float32", 1)[0]
    for action in (
        lambda: group.gather_bucket(first),  # itself finite: it is another tensor that is broken
        lambda: group.save(tmp_path / "state"),
        lambda: group.export(tmp_path / "export"),
    ):
        with pytest.raises(RunStopped, match="not finite"):
            action()
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_masked_rows_change_nothing(groups, model_dir, stage):  # type: ignore[no-untyped-def]
    """R3: rows without a loss token count in no denominator; a batch of them has loss 0 and makes no step."""
    masked = [
        TrainSequence(s.token_ids, np.zeros(len(s.token_ids)), s.behavior_logprobs, s.advantage, 100 + s.rollout)
        for s in make_sequences(7)
    ]
    expected = train(model_dir, [BATCH])
    group = groups(2)
    group.setup(model_dir, config(zero_stage=stage, max_tokens_per_micro_batch=64), 3, 0, reference=False)
    before = weights_of(group)
    step = run_steps(group, [masked])[0]
    assert (step["loss"], step["trained_tokens"], step["skipped_steps"]) == (0, 0, 0)
    assert run_steps(group, [[]])[0]["loss"] == 0
    assert same(weights_of(group), before)
    step = run_steps(group, [masked + BATCH])[0]
    assert step["loss"] == pytest.approx(expected.losses[0], rel=1e-5)
    assert distance(weights_of(group), expected.weights) < 1e-5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_ranks_with_uneven_rows(groups, model_dir, stage):  # type: ignore[no-untyped-def]
    """R9: 2 rows against 5, then 1 against none; unpacked, so that one rank runs dummies while the other works."""

    def row(length: int, rollout: int) -> TrainSequence:
        rng = np.random.default_rng(rollout)
        ids, ones = rng.integers(0, 40, length), np.full(length, rng.normal())
        return TrainSequence(ids, np.arange(length) > 1, -3.7 * np.ones(length), ones, rollout)

    # Fed tokens: 60 + 5 on one rank; 5 x 14 on the other, whose fourth still left it at 56 < 60.
    uneven = [row(61, 0), row(6, 1), *(row(15, i) for i in range(2, 7))]
    batches = [uneven, uneven[:1]]
    expected = train(model_dir, batches)
    group = groups(2)
    group.setup(model_dir, config(zero_stage=stage, packing=False), 2, 0, reference=False)
    steps = run_steps(group, batches)
    assert [step["micro_batches"] for step in steps] == [5, 1]
    assert [step["grad_norm"] for step in steps] == pytest.approx(expected.grad_norms, rel=1e-5)
    assert distance(weights_of(group), expected.weights) < 1e-5


def test_offload_without_zero_is_refused(groups, model_dir):  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match=r"learner\.offload='optimizer' with learner\.zero_stage=0"):
        groups(2).setup(model_dir, config(zero_stage=0, offload="optimizer"), 1, 0, reference=False)


def test_model_that_bends_its_logits_is_refused(groups, make_model):  # type: ignore[no-untyped-def]
    directory = make_model(final_logit_softcapping=30.0)
    with pytest.raises(RecipeError, match=r"final_logit_softcapping=30\.0"):
        groups(2).setup(directory, config(), 1, 0, reference=False)


def test_dead_and_frozen_ranks_are_named(ray_cluster, model_dir):  # type: ignore[no-untyped-def]
    """R8: rank 1 stops answering, then dies; both times the driver says so in seconds, and says which."""
    group = start_group(2, step_timeout_s=4.0)
    group.setup(model_dir, config(), 9, 0, reference=False)
    pid = group.pids()[1]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="rank 1 is frozen"):
        run_steps(group, [BATCH])
    assert time.monotonic() - began < 15
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="rank 1 died"):
        run_steps(group, [BATCH])
    assert time.monotonic() - began < 20
    group.close()
