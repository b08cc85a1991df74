"""What saves memory, and what goes with what; the estimate that `rlvr check` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr.recipe.memory import GIB, Shape, rank_memory, shape_of
from rlvr.recipe.memory_rules import memory_faults
from rlvr.recipe.schema import (
    InitConfig,
    LearnerConfig,
    LearnerResources,
    ModelConfig,
    OptimizerConfig,
    ResourcesConfig,
)

MODEL = ModelConfig(init=InitConfig(num_heads=12, num_kv_heads=4, hidden_size=384))


def faults(ranks: int = 1, model: ModelConfig = MODEL, **learner: object) -> list[str]:
    resources = ResourcesConfig(learners=LearnerResources(count=ranks))
    found = memory_faults(LearnerConfig.model_validate(learner), resources, model)
    return [f"{'.'.join(loc)}={value}: {text}" for loc, value, text in found]


def test_offload_needs_its_stage() -> None:
    assert not faults(zero_stage=3, offload="parameters")
    assert not faults(zero_stage=1, offload="optimizer")
    assert faults(zero_stage=2, offload="parameters")[0].startswith("offload=parameters: only ZeRO 3")
    assert faults(zero_stage=0, offload="optimizer") == ["offload=optimizer: needs learner.zero_stage 1, 2 or 3"]


@pytest.mark.parametrize(
    ("settings", "said"), [({"zero_stage": 3}, "zero_stage"), ({"offload": "optimizer"}, "offload")]
)
def test_eight_bit_moments_need_stage_1_or_2_on_the_gpu(settings: dict[str, object], said: str) -> None:
    optimizer = OptimizerConfig(kind="paged_adamw_8bit")
    assert not faults(optimizer=optimizer)
    (fault,) = faults(optimizer=optimizer, **settings)
    assert fault.startswith("optimizer.kind=paged_adamw_8bit:")
    assert said in fault


def test_sequence_parallel_divides_ranks_and_heads_with_the_feasible_values() -> None:
    assert not faults(ranks=8, sequence_parallel=4)
    # gcd(6 ranks, 12 heads, 4 key/value heads) = 2.
    (fault,) = faults(ranks=6, sequence_parallel=4)
    has = "6 learner ranks, 12 heads and 4 key/value heads"
    assert fault == f"sequence_parallel=4: must divide what its ranks share: {has}; feasible here: 1, 2"
    assert "learner.attention=varlen_sdpa" in faults(ranks=4, sequence_parallel=2, attention="sdpa")[0]
    # Of a hub id only the ranks are known here; loading it checks the heads.
    assert not faults(ranks=3, sequence_parallel=3, model=ModelConfig(path="org/model"))


def test_a_local_model_says_its_own_shape(tmp_path: Path) -> None:
    config = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "intermediate_size": 64,
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = ModelConfig(path=str(tmp_path))
    assert shape_of(model) is None  # no weights: how many parameters is not known
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "BF16", "shape": [100, 32], "data_offsets": [0, 6400]},
            "b": {"dtype": "BF16", "shape": [7], "data_offsets": [6400, 6414]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6414))
    # Heads of 32 / 4 = 8, so queries are 4 x 8 wide and keys 2 x 8.
    assert shape_of(model) == Shape(3207, 3, 32, 64, 32, 16, 100)
    assert faults(ranks=4, model=model, sequence_parallel=4)[0].endswith("feasible here: 1, 2")


def test_a_model_of_init_has_as_many_parameters_as_transformers_builds() -> None:
    """Qwen2 adds biases to q, k and v, which are the difference."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    init = InitConfig()
    shape = shape_of(ModelConfig(init=init))
    assert shape is not None
    built = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=init.hidden_size,
            intermediate_size=init.intermediate_size,
            num_hidden_layers=init.num_layers,
            num_attention_heads=init.num_heads,
            num_key_value_heads=init.num_kv_heads,
            tie_word_embeddings=True,
        )
    )
    biases = init.num_layers * (shape.queries + 2 * shape.keys)
    assert sum(parameter.numel() for parameter in built.parameters()) - biases == shape.parameters


def test_the_bytes_of_a_rank_by_hand() -> None:
    """7e9 parameters in bfloat16 on 8 ranks; the classic 16 bytes per parameter, and what each knob takes away."""
    shape = Shape(7_000_000_000, 32, 4096, 11008, 4096, 4096, 32000)
    learner = LearnerConfig(dtype="bfloat16", zero_stage=3, max_tokens_per_micro_batch=4096)

    def sizes(learner: LearnerConfig, reference: bool = False) -> dict[str, float]:
        return {name.strip(): size for name, size, _ in rank_memory(shape, learner, 8, 4096, reference)}

    found = sizes(learner, reference=True)
    assert found["weights"] == 7e9 * 2 / 8
    assert found["reference policy"] == 7e9 * 2 / 8
    assert found["gradients"] == 7e9 * 4 / 8
    assert found["optimizer"] == 7e9 * (4 + 8) / 8
    # Two copies of 256 x 32000 float32 logits.
    assert found["logits"] == 2 * 256 * 32000 * 4
    stage_0 = sizes(learner.model_copy(update={"zero_stage": 0}))
    assert (stage_0["weights"], stage_0["gradients"], stage_0["optimizer"]) == (14e9, 14e9, 84e9)
    assert sizes(learner.model_copy(update={"offload": "optimizer"}))["optimizer"] == 0
    parameters_off = sizes(learner.model_copy(update={"offload": "parameters"}), reference=True)
    assert parameters_off["weights"] == parameters_off["reference policy"] == parameters_off["optimizer"] == 0
    assert sizes(learner.model_copy(update={"offload_reference": True}), reference=True)["reference policy"] == 0
    eight_bit = {"zero_stage": 2, "optimizer": OptimizerConfig(kind="adamw_8bit")}
    assert sizes(learner.model_copy(update=eight_bit))["optimizer"] == 7e9 * (4 + 2) / 8
    # One layer of 4096 tokens: of d 2 x (4 + 2 x 2) = 16 bytes, 2 x (3 + 3) = 12 of q and k, 8 of the MLP's width.
    layer = 4096 * (16 * 4096 + 12 * 4096 + 8 * 11008)
    assert found["activations"] == 32 * layer
    checkpointed = sizes(learner.model_copy(update={"gradient_checkpointing": True}))["activations"]
    assert checkpointed == 32 * 4096 * 4096 * 2 + layer
    assert checkpointed < 1.9 * GIB < 20 * GIB < found["activations"]
    assert sizes(learner.model_copy(update={"sequence_parallel": 4}))["activations"] == 8 * layer
