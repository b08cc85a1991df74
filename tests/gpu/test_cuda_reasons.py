"""Each reason for a skip, on a machine that is described instead of had."""

import pytest
import torch

from tests.gpu.conftest import lacking


@pytest.mark.parametrize(
    ("cuda", "count", "asked", "reason"),
    [
        (None, 0, {}, f"needs a GPU: torch {torch.__version__} is built without CUDA"),
        ("13.0", 0, {}, "needs a GPU: torch sees none"),
        ("13.0", 1, {"gpus": 2}, "needs 2 GPUs: this machine has 1"),
        ("13.0", 2, {"gpus": 2}, None),
    ],
)
def test_gpus(monkeypatch, cuda, count, asked, reason):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert lacking("torch", **asked) == reason


def test_packages(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert lacking("torch", "no_such_a", "no_such_b") == "needs no_such_a, no_such_b: not installed"
