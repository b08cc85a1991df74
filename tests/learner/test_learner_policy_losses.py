"""Every loss of tokens and sequences on real ranks: the same step for any packing and any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from learner_reference import make_sequences
from learner_setup import config, distance, run_steps, weights_of

from rlvr.learner.batch import TrainSequence
from rlvr.recipe.objective import EntropyForks, MismatchCorrection, ObjectiveConfig
from rlvr.recipe.policy_losses import ClipCovLoss, DroLoss, GmpoLoss, GroupSlot, GspoLoss, KlCovLoss
from rlvr.recipe.schema import OptimizerConfig

FAST = OptimizerConfig(lr=3e-3, eps=1e-5)
GROUP_LOSS = '''"""A loss that couples all rollouts of a group."""

import torch


def pairwise(sums, lengths, rewards, groups, config, facts):
    better = (rewards[:, None] > rewards[None, :]) & (groups[:, None] == groups[None, :])
    margins = (sums / lengths)[:, None] - (sums / lengths)[None, :]
    return -torch.nn.functional.logsigmoid(margins[better]).sum() / better.sum().clamp(min=1)
'''


def sequences(seed: int) -> list[TrainSequence]:
    rows = make_sequences(seed)
    for row in rows:
        row.group, row.facts = row.rollout // 4, {"reward": float(row.rollout % 3)}
    return rows


BATCHES = [sequences(seed) for seed in range(2)]
OBJECTIVES = {
    "gspo": ObjectiveConfig(
        policy_loss=GspoLoss(name="gspo", clip_low=0.01, clip_high=0.02), aggregation="sequence_mean"
    ),
    "gmpo": ObjectiveConfig(
        policy_loss=GmpoLoss(name="gmpo", clip_low=0.02, clip_high=0.02), aggregation="sequence_mean"
    ),
    "dro": ObjectiveConfig(policy_loss=DroLoss(name="dro"), aggregation="sequence_mean"),
    "clip_cov": ObjectiveConfig(policy_loss=ClipCovLoss(name="clip_cov", share=0.1, covariance_low=0.05)),
    "kl_cov": ObjectiveConfig(policy_loss=KlCovLoss(name="kl_cov", share=0.1)),
    "entropy_forks": ObjectiveConfig(
        token_weights=(EntropyForks(name="entropy_forks", share=0.2),), token_weight_denominator="selected"
    ),
    "mismatch": ObjectiveConfig(
        mismatch=(
            MismatchCorrection(level="token", action="clamp", high=1.2, normalise="batch"),
            MismatchCorrection(level="geometric", action="mask", low=0.545, high=1.1, weigh=False),
        )
    ),
    "group": None,
}
SPLITS = [(1, 4096, True), (1, 48, True), (1, 48, False), (2, 64, True)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_split_changes_nothing(groups, model_dir, tmp_path, name):  # type: ignore[no-untyped-def]
    """Two epochs of two mini-batches on two batches; ranks, token budget and packing differ."""
    objective = OBJECTIVES[name]
    if objective is None:
        file = tmp_path / "losses.py"
        file.write_text(GROUP_LOSS)
        objective = ObjectiveConfig(policy_loss=GroupSlot(name="group", fn=f"{file}:pairwise"))
    outcomes = []
    for ranks, budget, packing in SPLITS:
        group = groups(ranks)
        learner = config(
            zero_stage=2, epochs=2, mini_batches=2, packing=packing, max_tokens_per_micro_batch=budget, optimizer=FAST
        )
        group.setup(model_dir, learner, 8, 0, reference=False)
        outcomes.append((run_steps(group, BATCHES, objective, shuffle_seed=3), weights_of(group)))
    steps, weights = outcomes[0]
    assert all(np.isfinite(step["loss"]) for step in steps)
    for other_steps, other in outcomes[1:]:
        assert [s["loss"] for s in other_steps] == pytest.approx([s["loss"] for s in steps], rel=2e-4, abs=2e-6)
        assert distance(other, weights) < 5e-5
        shared = set(steps[0]) - {"micro_batches"}
        for key in shared:
            assert other_steps[0][key] == pytest.approx(steps[0][key], rel=5e-3, abs=2e-5), key
    if name == "mismatch":
        assert 0 < steps[0]["mismatch_bounded_fraction"] < 1
    if name == "entropy_forks":
        assert steps[0]["token_scale_zero"] == pytest.approx(0.8, abs=0.02)
        assert steps[0]["token_scale"] == pytest.approx(1.0, abs=1e-5)  # what is kept carries all of the weight


def test_diagnostics(groups, model_dir):  # type: ignore[no-untyped-def]
    """One step per batch: ratios are 1 and not even measured. Several: quantiles spread, the drift is positive."""
    group = groups(2)
    group.setup(model_dir, config(zero_stage=3, optimizer=FAST), 2, 0, reference=False)
    (one,) = run_steps(group, BATCHES[:1], update_sparsity=True)
    assert "ratio_p99" not in one
    assert one["update_kl_k1"] == one["update_kl_k3"] == 0
    assert 0 < one["effective_sample_share"] < 1
    assert 0 <= one["update_sparsity"] < 1
    group.setup(model_dir, config(epochs=3, optimizer=FAST), 3, 0, reference=True)
    from rlvr.recipe.kl import KlConfig

    (several,) = run_steps(group, BATCHES[:1], ObjectiveConfig(kl=KlConfig(coefficient=0.1)))
    assert several["ratio_p01"] < several["ratio_p50"] < several["ratio_p99"] <= several["ratio_max"]
    assert several["update_kl_k3"] > 0
    assert several["engine_kl_k3"] > 0
    assert several["token_grad_norm/policy"] > several["token_grad_norm/kl"] > 0
