"""R20: adapters learn as peft's own do, at every ZeRO stage; what leaves is base and adapter; the base never moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from learner_reference import Trajectory, make_sequences, train
from learner_setup import check_resume, config, distance, run_steps, same, weights_of
from transformers import AutoModelForCausalLM

from rlvr.errors import RecipeError, RlvrError
from rlvr.learner.batch import demonstration
from rlvr.recipe.kl import KlConfig
from rlvr.recipe.lora import LoraConfig
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.recipe.schema import OptimizerConfig
from rlvr.transfer.buckets import plan_buckets, unpack

BATCHES = [make_sequences(seed) for seed in range(4)]
FAST = OptimizerConfig(lr=3e-3)
LORA = LoraConfig(rank=4, alpha=12)
K3 = KlConfig(estimator="k3", coefficient=0.2)


def lora_config(lora: LoraConfig = LORA, **settings: Any) -> Any:
    return config(lora=lora, optimizer=FAST, max_tokens_per_micro_batch=100, **settings)


def tensors_of(group: Any, form: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for bucket in plan_buckets(group.parameter_specs(form), "float32", 64 << 10, form):
        found |= {n: t.clone() for n, t in unpack(bucket, ray.get(group.gather_bucket(bucket)[0], timeout=60))}
    return found


def peft_model(lora: LoraConfig, tensors: dict[str, torch.Tensor]) -> Callable[[Any], Any]:
    """Makes peft's own model around a loaded one, with the adapter that the learner drew."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model, set_peft_model_state_dict

    def adapt(model: Any) -> Any:
        names = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
        wrapped = get_peft_model(
            model,
            PeftConfig(
                r=lora.rank,
                lora_alpha=int(lora.alpha),
                target_modules=names,
                use_rslora=lora.rslora,
                use_dora=lora.dora,
            ),
        )
        missed = set_peft_model_state_dict(wrapped, tensors)
        assert not missed.unexpected_keys, missed.unexpected_keys
        return wrapped

    return adapt


@pytest.mark.parametrize(
    ("stage", "lora"),
    [
        (0, LORA),
        (2, LORA),
        (3, LORA),
        (2, LORA.model_copy(update={"rslora": True, "target_modules": ("q_proj", "down_proj"), "init": "gaussian"})),
        (0, LORA.model_copy(update={"dora": True})),
        pytest.param(2, LORA.model_copy(update={"dora": True}), marks=pytest.mark.slow),
    ],
    ids=["zero0", "zero2", "zero3", "rslora-names", "dora-zero0", "dora-zero2"],
)
def test_three_steps_are_those_of_plain_peft(groups, model_dir, stage, lora):  # type: ignore[no-untyped-def]
    """Losses with a KL to the base, norms over adapters only, and the merged weights, against peft and torch alone."""
    group = groups(2)
    group.setup(model_dir, lora_config(lora, zero_stage=stage), 3, 0, reference=True)
    drawn = tensors_of(group, "peft")
    assert all(not tensor.any() for name, tensor in drawn.items() if "lora_B" in name)
    expected: Trajectory = train(
        model_dir, BATCHES[:3], lr=3e-3, kl=("k3", 0.2), adapt=peft_model(lora, drawn), max_norm=1.0
    )
    start, base = weights_of(group), tensors_of(group, "base")
    steps = run_steps(group, BATCHES[:3], ObjectiveConfig(kl=K3))
    assert [step["loss"] for step in steps] == pytest.approx(expected.losses, rel=1e-4)
    assert [step["grad_norm"] for step in steps] == pytest.approx(expected.grad_norms, rel=1e-4)
    assert distance(weights_of(group), expected.weights) < 2e-5
    assert distance(start, expected.weights) > 1e-3, "the adapters must have learnt something"
    after = tensors_of(group, "base")
    assert base.keys() == after.keys() == start.keys()
    assert all(torch.equal(base[name], after[name]) for name in base)


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [
        pytest.param(0, "float32", marks=pytest.mark.slow),
        (2, "float32"),
        (3, "float32"),
        (2, "bfloat16"),
        pytest.param(3, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_resume_is_bitwise_and_holds_no_base(groups, model_dir, tmp_path, stage, dtype):  # type: ignore[no-untyped-def]
    """R12: as without adapters; what is saved is smaller than the base alone would be."""
    learner = lora_config(zero_stage=stage, dtype=dtype)
    check_resume(groups(2), model_dir, learner, BATCHES, tmp_path)
    held = [torch.load(file, weights_only=False, map_location="cpu") for file in tmp_path.rglob("*model_states.pt")]
    names = {name for state in held for name in state["module"]}
    assert not [name for name in names if "base_layer" in name or "norm" in name or "embed" in name]


def test_an_adapter_of_another_base_is_refused(groups, model_dir, make_model, tmp_path):  # type: ignore[no-untyped-def]
    group = groups(2)
    group.setup(model_dir, lora_config(zero_stage=2), 4, 0, reference=False)
    run_steps(group, BATCHES[:1])
    group.save(tmp_path / "saved")
    other = make_model()
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    model.save_pretrained(other)
    group.setup(other, lora_config(zero_stage=2), 4, 0, reference=False)
    with pytest.raises(RlvrError, match="trained on another base"):
        group.load(tmp_path / "saved")


@pytest.mark.parametrize(("stage", "dtype"), [pytest.param(0, "float32", marks=pytest.mark.slow), (2, "bfloat16")])
def test_a_thousand_transfers_leave_the_base_bit_identical(groups, model_dir, stage, dtype):  # type: ignore[no-untyped-def]
    """R20: and each sends the same bits as the first. A merge that is taken back drifts after a few, in bfloat16."""
    group = groups(1)
    group.setup(model_dir, lora_config(zero_stage=stage, dtype=dtype), 4, 0, reference=False)
    run_steps(group, BATCHES[:1])
    before = tensors_of(group, "base")
    (bucket,) = plan_buckets(group.parameter_specs(), "bfloat16", 1 << 30)
    first = group.gather_bucket(bucket)[1]
    for _ in range(1000):
        assert group.gather_bucket(bucket)[1] == first
    after = tensors_of(group, "base")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("stage", "dora"), [(2, False), (3, False), (2, True)])
def test_exports_load_back_with_the_learners_logits(groups, model_dir, tmp_path, stage, dora):  # type: ignore[no-untyped-def]
    """R13: as a model and as an adapter that transformers and peft put onto the base that it names."""
    from peft import AutoPeftModelForCausalLM

    group = groups(2)
    lora = LORA.model_copy(update={"dora": dora})
    group.setup(model_dir, lora_config(lora, zero_stage=stage), 4, 0, reference=False)
    run_steps(group, BATCHES[:2])
    group.export(tmp_path / "model")
    group.export(tmp_path / "adapter", "peft")
    assert not list((tmp_path / "adapter").glob("model*"))
    plain = AutoModelForCausalLM.from_pretrained(model_dir)
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        untrained = plain(ids).logits
        plain.load_state_dict({n: torch.tensor(w) for n, w in weights_of(group).items()}, strict=False)
        expected = plain(ids).logits
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "model")(ids).logits, expected)
        for loader in (AutoModelForCausalLM, AutoPeftModelForCausalLM):
            adapted = loader.from_pretrained(tmp_path / "adapter")(input_ids=ids).logits
            assert torch.allclose(adapted, expected, atol=1e-4)
    assert not torch.allclose(untrained, expected, atol=1e-2)


def test_the_engines_form_of_an_adapter_adds_up_to_the_merged_weights(groups, model_dir):  # type: ignore[no-untyped-def]
    """base + B A with the scaling of alpha / sqrt(rank) = 6 in B already."""
    group = groups(2)
    group.setup(model_dir, lora_config(LORA.model_copy(update={"rslora": True})), 4, 0, reference=False)
    run_steps(group, BATCHES[:1])
    merged, base, adapter = (tensors_of(group, form) for form in ("weights", "base", "adapter"))
    adapted = [name for name in base if f"base_model.model.{name}".replace(".weight", ".lora_A.weight") in adapter]
    assert len(adapted) * 2 == len(adapter) == 2 * 2 * 7  # 2 layers with 7 linear layers each
    for name in adapted:
        stem = "base_model.model." + name.removesuffix(".weight")
        total = base[name] + adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"]
        assert torch.allclose(total, merged[name], atol=1e-6)
    peft = tensors_of(group, "peft")
    name = next(name for name in peft if name.endswith("lora_B.weight"))
    assert torch.allclose(adapter[name], 6 * peft[name])


def test_dropout_is_repeated_after_a_resume(groups, model_dir, tmp_path):  # type: ignore[no-untyped-def]
    """An sft stage with dropout: it changes the gradient, and the same again after a resume."""
    batch = [demonstration(list(range(1, 20)), [False] * 4 + [True] * 15, rollout=0)]
    group = groups(2)
    norms = {}
    for dropout in (0.0, 0.5):
        learner = lora_config(LORA.model_copy(update={"dropout": dropout}))
        group.setup(model_dir, learner, 4, 0, reference=False)
        norms[dropout] = group.train_sft(batch)["grad_norm"]
    assert norms[0.0] != norms[0.5]
    group.save(tmp_path)
    second = group.train_sft(batch)
    group.setup(model_dir, learner, 4, 0, reference=False)
    group.load(tmp_path)
    assert group.train_sft(batch) == second
    # Nothing is dropped where nothing learns.
    scores = [np.concatenate(group.token_outputs(batch)) for _ in range(2)]
    assert np.array_equal(*scores)


def test_a_scalar_model_learns_its_head_whole_and_adapters_below(groups, model_dir, tmp_path):  # type: ignore[no-untyped-def]
    """A critic under LoRA: towards returns of 1, it gets nearer; its export is a whole model."""
    batch = make_sequences(0)
    for sequence in batch:
        sequence.columns |= {"returns": np.ones(len(sequence.token_ids)), "values": np.zeros(len(sequence.token_ids))}
    group = groups(2)
    learner = lora_config(zero_stage=2)
    group.setup(model_dir, learner, 9, 0, reference=False, head="scalar")
    before = weights_of(group)
    losses = [group.train_values(batch, None, 0)["value_loss"] for _ in range(6)]
    totals = [total / count for total, count in losses]
    assert totals[-1] < 0.7 * totals[0]
    moved = {name for name, weight in weights_of(group).items() if not np.array_equal(weight, before[name])}
    assert "score.weight" in moved
    assert "model.layers.0.mlp.up_proj.weight" in moved
    assert not [name for name in moved if "norm" in name or "embed" in name]
    group.save(tmp_path / "saved")
    after = weights_of(group)
    group.setup(model_dir, learner, 9, 0, reference=False, head="scalar")
    group.load(tmp_path / "saved")
    assert same(weights_of(group), after)


def test_a_name_that_no_layer_has_is_an_error(groups, model_dir: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    learner = lora_config(LORA.model_copy(update={"target_modules": ("q_proj", "c_attn")}))
    with pytest.raises(RecipeError, match=r"no linear layer c_attn; it has down_proj, .*, v_proj"):
        groups(1).setup(model_dir, learner, 4, 0, reference=False)
