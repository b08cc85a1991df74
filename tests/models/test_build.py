"""Model directories: seeded, of the shape the recipe says, loadable as Hugging Face models."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlvr.models.build import materialize, tiny_like
from rlvr.recipe.schema import InitConfig, ModelConfig
from rlvr.tasks.alphabet import PRINTABLE


def init(**sizes):
    return ModelConfig(init=InitConfig(**sizes))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_directory_holds_the_model_of_the_recipe(tmp_path, architecture, tied):
    model = init(
        architecture=architecture, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, tie_word_embeddings=tied
    )
    directory = materialize(model, tmp_path / "m", seed=1, characters="abc")
    loaded = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert loaded.config.model_type == architecture
    assert loaded.config.vocab_size == len(tokenizer) == 6
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    attention = loaded.model.layers[0].self_attn
    # 2 heads of 64 / 2 = 32; one key/value head.
    assert attention.q_proj.weight.shape == (64, 64)
    assert attention.k_proj.weight.shape == (32, 64)
    assert (loaded.config.eos_token_id, loaded.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    logits = loaded(torch.tensor([tokenizer("abc")["input_ids"]])).logits
    assert torch.isfinite(logits).all()


def test_the_quickstart_model_has_about_0_8_million_parameters(tmp_path):
    directory = materialize(init(), tmp_path, seed=0, characters="0123456789+=, \\boxed{}")
    assert sum(weight.numel() for weight in load_file(f"{directory}/model.safetensors").values()) == 791808


def test_the_seed_decides_the_weights_and_nothing_else_moves(tmp_path):
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 1, "num_kv_heads": 1}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    weights = [
        load_file(materialize(init(**sizes), tmp_path / str(index), seed, "ab") + "/model.safetensors")
        for index, seed in enumerate((7, 7, 8))
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["model.embed_tokens.weight"], weights[2]["model.embed_tokens.weight"])


def test_written_characters_win_and_paths_pass_through(tmp_path):
    model = ModelConfig.model_validate(
        {"init": {"hidden_size": 32, "num_heads": 1, "num_kv_heads": 1, "tokenizer": {"characters": "xyz"}}}
    )
    assert len(AutoTokenizer.from_pretrained(materialize(model, tmp_path, 0, "abcdefgh"))) == 6
    assert materialize(ModelConfig(path="some/model"), tmp_path, 0, "") == "some/model"


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_a_tiny_stand_in_has_the_same_architecture(tmp_path, architecture):
    original = AutoConfig.for_model(architecture, tie_word_embeddings=architecture == "qwen3")
    original.save_pretrained(tmp_path / "original")
    directory = tiny_like(ModelConfig(path=str(tmp_path / "original")), tmp_path / "tiny", PRINTABLE, seed=0)
    tiny = AutoModelForCausalLM.from_pretrained(directory)
    assert tiny.config.model_type == architecture
    assert tiny.config.tie_word_embeddings == original.tie_word_embeddings
    assert tiny.num_parameters() < 200_000
    # Heads of 32, which vLLM's CPU kernels know.
    assert tiny.model.layers[0].self_attn.q_proj.weight.shape == (64, 64)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "user: hi\nassistant: "


def test_an_unreachable_model_becomes_a_qwen2(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://nowhere.invalid")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    directory = tiny_like(ModelConfig(path="nobody/no-such-model"), tmp_path, "ab", seed=0)
    assert AutoConfig.from_pretrained(directory).model_type == "qwen2"
