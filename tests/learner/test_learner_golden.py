"""The golden trajectory: however a batch is split, three steps give the losses, norms and weights of plain torch."""

from __future__ import annotations

import pytest
from learner_reference import Trajectory, make_sequences, train
from learner_setup import config, distance, run_steps, weights_of

from rlvr.recipe.schema import ObjectiveConfig

BATCHES = [make_sequences(seed) for seed in range(3)]
BUDGETS = {1: 4096, 2: 180, 8: 48}  # nominal micro-batches of one rank -> token budget


@pytest.fixture(scope="module")
def reference(model_dir: str) -> Trajectory:
    return train(model_dir, BATCHES)


# R3, R4: ranks, ZeRO stage, nominal number of micro-batches (None: no packing).
CASES = [
    *((ranks, stage, 1) for ranks in (1, 2) for stage in (0, 1, 2, 3)),
    *((2, stage, 8) for stage in (0, 1, 2, 3)),
    *((1, stage, 8) for stage in (0, 3)),
    *((1, stage, 2) for stage in (1, 2)),
    *((2, stage, None) for stage in (0, 2, 3)),
    (1, 2, None),
]


@pytest.mark.parametrize(("ranks", "stage", "pieces"), sorted(CASES, key=str))
def test_split_changes_nothing(groups, model_dir, reference, ranks, stage, pieces):  # type: ignore[no-untyped-def]
    group = groups(ranks)
    learner = config(
        zero_stage=stage,
        packing=pieces is not None,
        max_tokens_per_micro_batch=BUDGETS[pieces or 1],
        logprob_chunk_tokens=7,
    )
    group.setup(model_dir, learner, 3, 0, reference=False)
    steps = run_steps(group, BATCHES)
    assert [step["loss"] for step in steps] == pytest.approx(reference.losses, rel=1e-5)
    assert [step["grad_norm"] for step in steps] == pytest.approx(reference.grad_norms, rel=1e-5)
    assert distance(weights_of(group), reference.weights) < 1e-5
    micro_batches = steps[0]["micro_batches"]
    assert (micro_batches == 1) if pieces == 1 else (micro_batches > 1), micro_batches


@pytest.mark.parametrize("aggregation", ["sequence_mean", "sequence_sum_constant"])
def test_other_aggregations(groups, model_dir, aggregation):  # type: ignore[no-untyped-def]
    expected = train(model_dir, BATCHES, aggregation=aggregation, temperature=0.6)
    group = groups(2)
    group.setup(model_dir, config(zero_stage=2, max_tokens_per_micro_batch=64), 3, 0, reference=False)
    steps = run_steps(group, BATCHES, ObjectiveConfig(aggregation=aggregation), temperature=0.6)
    assert [step["loss"] for step in steps] == pytest.approx(expected.losses, rel=1e-5)
    assert distance(weights_of(group), expected.weights) < 1e-5


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_clipping_checkpointing_and_sdpa_attention(groups, make_model, stage, tied):  # type: ignore[no-untyped-def]
    """Other paths to the same numbers: recomputed activations, transformers' own packed attention, untied heads."""
    from rlvr.recipe.schema import OptimizerConfig

    directory = make_model(tied=tied)
    expected = train(directory, BATCHES, max_norm=0.05)
    group = groups(2)
    learner = config(
        zero_stage=stage,
        attention="sdpa",
        gradient_checkpointing=True,
        max_tokens_per_micro_batch=100,
        optimizer=OptimizerConfig(lr=1e-4, max_grad_norm=0.05),
    )
    group.setup(directory, learner, 3, 0, reference=False)
    steps = run_steps(group, BATCHES)
    assert min(expected.grad_norms) > 0.05, "the clip must be active"
    assert [step["grad_norm"] for step in steps] == pytest.approx(expected.grad_norms, rel=1e-5)
    assert distance(weights_of(group), expected.weights) < 1e-5
