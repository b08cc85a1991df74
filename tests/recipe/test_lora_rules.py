"""What cannot work under LoRA is refused before anything starts, with the way out."""

from pathlib import Path

import pytest

from rlvr.cli.evaluate import evaluation_recipe
from rlvr.controller.export import export_form
from rlvr.controller.session import engine_spec, sent_adapters
from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe
from rlvr.recipe.lora import LoraConfig
from rlvr.recipe.reward_model import load_reward_model_recipe
from rlvr.recipe.schema import RlStage, SftStage

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "addition-lora.yaml"
LORA = "stages.rl.learner.lora"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"{LORA}.dropout=0.1"], "dropout=0.1: with dropout the learner scores another policy"),
        ([f"{LORA}.transfer=adapter", "rollout.engine=transformers"], "use merged, or rollout.engine=vllm"),
        ([f"{LORA}.transfer=adapter", f"{LORA}.dora=true"], "vLLM does not support DoRA adapters; use merged"),
        ([f"{LORA}.transfer=adapter", f"{LORA}.rank=1024"], "vLLM serves adapters up to rank 512"),
        ([f"{LORA}.transfer=adapter", "resources.transfer=nccl"], "use resources.transfer=auto in place of nccl"),
        ([f"{LORA}.target_modules=[q_proj,lm_head]"], "lm_head stays as it is"),
        ([f"{LORA}.target_modules=[]"], "names no layer"),
        ([f"{LORA}.dora=true", "learner.zero_stage=3"], "use learner.zero_stage 0, 1 or 2"),
        (["stages.rl.objective.kl={coefficient: 0.1, anchor: {name: ema}}"], "the adapters off, which cannot move"),
        ([f"{LORA}.modules_to_save=[lm_head]"], "modules_to_save: unknown key"),
        ([f"{LORA}.rank=0"], "rank=0"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPE, overrides)
    assert message in " ".join(str(caught.value).split())


def test_dropout_is_for_sft_stages() -> None:
    stage = load_recipe(RECIPE, ["stages.sft.learner.lora.dropout=0.1"]).stages[0]
    assert isinstance(stage, SftStage)
    assert stage.learner.lora == LoraConfig(dropout=0.1)


def test_a_reward_model_is_left_whole() -> None:
    recipe = RECIPE.parents[1] / "reward_models" / "sums.yaml"
    assert load_reward_model_recipe(recipe, ["learner.lora.rank=4"]).learner.lora == LoraConfig(rank=4)
    with pytest.raises(RecipeError, match=r"learner.lora.export=adapter: a reward model is left whole"):
        load_reward_model_recipe(recipe, ["learner.lora.export=adapter"])


def test_the_scaling() -> None:
    assert LoraConfig(rank=16, alpha=32).scaling == 2
    assert LoraConfig(rank=16, alpha=32, rslora=True).scaling == 8


def test_engines_make_room_for_the_adapters_that_they_will_be_sent() -> None:
    plain, adapter = (load_recipe(RECIPE, [f"{LORA}.transfer={form}"]) for form in ("merged", "adapter"))
    assert sent_adapters(plain.stages) == []
    assert len(sent_adapters(adapter.stages)) == 1
    recipe = load_recipe(
        RECIPE, [f"{LORA}.transfer=adapter", f"{LORA}.target_modules=[q_proj,v_proj]", "rollout.kv_cache_gb=1"]
    )
    spec = engine_spec(recipe, "unread", "cpu", "host")
    assert (spec.lora_rank, spec.lora_modules) == (16, ("q_proj", "v_proj"))


def test_what_a_stage_leaves() -> None:
    sft, rl = load_recipe(RECIPE, [f"{LORA}.export=adapter"]).stages
    assert isinstance(sft, SftStage)
    assert isinstance(rl, RlStage)
    assert export_form(rl, last=True) == "peft"
    assert export_form(rl, last=False) == "weights", "the next stage starts from it"
    assert export_form(rl, last=True, asked="merged") == "weights"
    assert export_form(sft, last=True) == "weights"
    with pytest.raises(RecipeError, match=r"stage sft trained all weights .*, so it has no adapter"):
        export_form(sft, last=True, asked="adapter")
    with pytest.raises(RecipeError, match="choose merged or adapter"):
        export_form(rl, last=True, asked="both")


def test_an_adapter_is_no_model_to_evaluate(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(RecipeError, match="is a LoRA adapter and no model; merge it with `rlvr export"):
        evaluation_recipe(load_recipe(RECIPE), str(tmp_path))
