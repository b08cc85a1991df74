"""Saving, resuming, exporting, and steps that must not move a bit."""

from __future__ import annotations

import pytest
import torch
from learner_reference import make_sequences
from learner_setup import check_resume, config, run_steps, same, weights_of

from rlvr.metrics import means
from rlvr.recipe.schema import OptimizerConfig

BATCHES = [make_sequences(seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [
        (0, "float32"),
        (2, "float32"),
        (3, "float32"),
        (0, "bfloat16"),
        (1, "bfloat16"),
        (2, "bfloat16"),
        (3, "bfloat16"),
    ],
)
def test_resume_is_bitwise(groups, model_dir, tmp_path, stage, dtype):  # type: ignore[no-untyped-def]
    """R12: two steps, save, two more; and again from what was saved, in an engine built anew."""
    optimizer = OptimizerConfig(lr=1e-3, schedule="cosine", warmup_steps=3)
    learner = config(zero_stage=stage, dtype=dtype, max_tokens_per_micro_batch=100, optimizer=optimizer)
    check_resume(groups(2), model_dir, learner, BATCHES, tmp_path)


@pytest.mark.parametrize(("stage", "tied"), [(2, True), (3, True), (3, False)])
def test_export_loads_back_with_equal_logits(groups, make_model, tmp_path, stage, tied):  # type: ignore[no-untyped-def]
    """R13: weights as trained; the configuration is the user's, not the training copy without dropout."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = make_model(tied=tied, attention_dropout=0.25)
    group = groups(2)
    group.setup(directory, config(zero_stage=stage), 4, 0, reference=False)
    run_steps(group, BATCHES[:1])
    group.export(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.attention_dropout == 0.25
    trained = AutoModelForCausalLM.from_pretrained(directory)
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        untrained = trained(ids).logits
        state = {name: torch.tensor(weight) for name, weight in weights_of(group).items()}
        missing = trained.load_state_dict(state, strict=False).missing_keys
        assert missing == (["lm_head.weight"] if tied else [])
        assert torch.equal(loaded(ids).logits, trained(ids).logits)
        assert not torch.allclose(untrained, loaded(ids).logits, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == 0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_lr_zero_moves_no_bit(groups, model_dir, stage):  # type: ignore[no-untyped-def]
    """R6: and every metric stays flat."""
    group = groups(2)
    group.setup(model_dir, config(zero_stage=stage, optimizer=OptimizerConfig(lr=0.0)), 4, 0, reference=False)
    before = weights_of(group)
    steps = run_steps(group, [BATCHES[0]] * 3)
    assert same(weights_of(group), before)
    assert steps[0] == steps[1] == steps[2]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bfloat16_follows_float32(groups, model_dir, stage):  # type: ignore[no-untyped-def]
    """8 bits of mantissa: loss and norm to 2%, over many micro-batches. Steps below an ulp add up in master weights.

    Weights above 0.0625 have an ulp of 2^-12 = 2.4e-4 or more, so one step of 1e-4 rounds to nothing; eight do not.
    """
    group = groups(2)
    results = {}
    for dtype in ("float32", "bfloat16"):
        learner = config(zero_stage=stage, dtype=dtype, max_tokens_per_micro_batch=48)
        group.setup(model_dir, learner, 4, 0, reference=False)
        before = weights_of(group)["model.layers.0.mlp.down_proj.weight"]
        results[dtype] = run_steps(group, BATCHES[:1])[0]
    run_steps(group, [BATCHES[0]] * 7)
    after = weights_of(group)["model.layers.0.mlp.down_proj.weight"]
    large = abs(before) > 0.0625
    assert (after != before)[large].mean() > 0.5
    assert results["bfloat16"]["grad_norm"] == pytest.approx(results["float32"]["grad_norm"], rel=0.02)
    assert results["bfloat16"]["loss"] == pytest.approx(results["float32"]["loss"], rel=0.02, abs=5e-3)
    assert results["bfloat16"]["entropy"] == pytest.approx(results["float32"]["entropy"], rel=0.01)


def test_offload_runs_without_compiling_on_a_cpu(groups, model_dir):  # type: ignore[no-untyped-def]
    group = groups(2)
    for stage, offload in ((2, "optimizer"), (3, "parameters")):
        plain, offloaded = (config(zero_stage=stage, offload=choice) for choice in ("none", offload))
        results = []
        for learner in (plain, offloaded):
            group.setup(model_dir, learner, 4, 0, reference=False)
            results.append([s["grad_norm"] for s in run_steps(group, BATCHES[:2])])
        assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_warm_up_reaches_the_optimizer(groups, model_dir):  # type: ignore[no-untyped-def]
    group = groups(2)
    group.setup(model_dir, config(optimizer=OptimizerConfig(lr=1.0, warmup_steps=4)), 4, 0, reference=False)
    lrs = [means(group.train_sft(BATCHES[0]))["lr"] for _ in range(4)]
    assert lrs == [0.25, 0.5, 0.75, 1.0]
