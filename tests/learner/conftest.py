"""A tiny model and two learner groups, started once: each actor's start imports torch and deepspeed for seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from learner_setup import VOCABULARY, start_group

from rlvr.learner.group import LearnerGroup


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Builds a Hugging Face directory of a seeded Qwen2 with a tokenizer whose pad is its eos (R10)."""

    def build(tied: bool = True, **settings: object) -> str:
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

        directory = str(tmp_path_factory.mktemp("model"))
        torch.manual_seed(0)
        shape = {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
        }
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            tie_word_embeddings=tied,
            pad_token_id=0,
            eos_token_id=0,
            initializer_range=0.1,
            **(shape | settings),
        )
        Qwen2ForCausalLM(config).save_pretrained(directory)
        words = {"<eos>": 0} | {chr(64 + i): i for i in range(1, VOCABULARY)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(
            directory
        )
        return directory

    return build


@pytest.fixture(scope="session")
def model_dir(make_model: Callable[..., str]) -> str:
    return make_model()


@pytest.fixture(scope="session")
def groups(ray_cluster: None) -> Iterator[Callable[[int], LearnerGroup]]:
    """groups(n) is a group of n ranks, started at the first call; set it up again for each test."""
    started: dict[int, LearnerGroup] = {}

    def get(count: int) -> LearnerGroup:
        if count not in started:
            started[count] = start_group(count)
        return started[count]

    yield get
    for group in started.values():
        group.close()
