"""Ranks that share the tokens of each row: the same gradients as one rank that holds them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from learner_reference import make_sequences
from learner_setup import config, distance, run_steps, weights_of

from rlvr.errors import RecipeError
from rlvr.learner.group import LearnerGroup
from rlvr.learner.policy import check_heads
from rlvr.recipe.schema import KlConfig, ObjectiveConfig, OptimizerConfig

# Adam divides a gradient by its own size, so that eps bounds how far rounding moves a weight.
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4)


@pytest.mark.parametrize(
    ("stage", "objective", "settings"),
    [
        (2, {"kl": KlConfig(coefficient=0.1)}, {"mini_batches": 2, "max_tokens_per_micro_batch": 96}),
        pytest.param(
            3,
            {"policy_loss": {"name": "gspo"}},
            {"gradient_checkpointing": True, "packing": False},
            marks=pytest.mark.slow,
        ),
        # A loss of whole groups asks all ranks for their rollouts, and those of a sequence group have the same.
        pytest.param(2, {"policy_loss": {"name": "sppo"}}, {}, marks=pytest.mark.slow),
    ],
)
def test_two_ranks_that_share_rows_train_as_one(
    groups: Callable[[int], LearnerGroup],
    make_model: Callable[..., str],
    stage: int,
    objective: dict[str, object],
    settings: dict[str, object],
) -> None:
    """Rows of odd length are padded, and ranks without a loss token take part: exact to float32 rounding."""
    model, batches = make_model(), [make_sequences(seed) for seed in range(2)]
    for sequence in [sequence for batch in batches for sequence in batch]:
        sequence.group, sequence.facts = sequence.rollout // 4, {"reward": float(sequence.rollout % 2)}
    chosen = ObjectiveConfig.model_validate(objective)
    found = []
    for ranks in (1, 2):
        group = groups(ranks)
        learner = config(zero_stage=stage, optimizer=OPTIMIZER, sequence_parallel=ranks, **settings)
        group.setup(model, learner, 8, 0, reference=True)
        metrics = run_steps(group, batches, chosen)
        kl = group.token_kl(batches[0], 1.0, KlConfig())
        found.append((weights_of(group), metrics, kl))
    (alone, expected, expected_kl), (shared, metrics, kl) = found
    assert distance(alone, shared) < 2e-6
    for ours, theirs in zip(metrics, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4, abs=2e-6)
    for ours, theirs in zip(kl, expected_kl, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_heads_that_cannot_be_shared_are_refused() -> None:
    from transformers import Qwen2Config

    model = Qwen2Config(num_attention_heads=12, num_key_value_heads=2)
    check_heads(model, 2, "a-model")
    with pytest.raises(RecipeError) as error:
        check_heads(model, 4, "a-model")
    text = "learner.sequence_parallel=4: must divide the 12 heads and 2 key/value heads of 'a-model'; feasible: 1, 2"
    assert str(error.value) == text
