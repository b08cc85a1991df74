"""The report on one GPU, dry: the same code with a tiny model on the CPU, and with packages hidden."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HIDING = """
import importlib.machinery, sys

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        hidden = fullname.partition(".")[0] in {names!r}
        return None if hidden else super().find_spec(fullname, path, target)

sys.meta_path = [Hiding if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""


def report(tmp_path: Path, *arguments: str, hide: tuple[str, ...] = ()) -> tuple[int, str, dict[str, Any]]:
    """(exit code, what was printed, the JSON by part) of a run in which the packages of `hide` are not to be found."""
    (tmp_path / "sitecustomize.py").write_text(HIDING.replace("{names!r}", repr(set(hide) or {""})))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    output = tmp_path / "report.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, cwd=tmp_path)
    if not output.exists():
        return done.returncode, done.stdout + done.stderr, {}
    assert done.stdout.strip() == output.read_text().strip()
    parts = json.loads(output.with_suffix(".json").read_text())["parts"]
    return done.returncode, done.stdout, {part["part"]: part for part in parts}


def values(part: dict[str, Any]) -> dict[str, float]:
    return {row["what"]: row["value"] for row in part["rows"]}


def test_torch_and_transformers_are_enough_for_all_but_the_run(tmp_path: Path) -> None:
    """R17. Hand-worked: the tiny model's width is 64, of its keys 32, of its MLP 128, 2 layers, 512 words, tied.

    Its parameters: 512 * 64 embeddings, per layer 2 * 64^2 + 2 * 64 * 32 + 3 * 64 * 128 in matrices, 64 + 2 * 32 biases
    and 2 * 64 of norms, 64 of the last norm: 32,768 + 2 * (36,864 + 256) + 64 = 107,072, at 2 bytes 0.2 MB.
    """
    hidden = ("vllm", "deepspeed", "ray", "pydantic", "typer", "rich")
    code, printed, parts = report(tmp_path, "--device", "cpu", "--size", "tiny", "--peak-tflops", "1", hide=hidden)
    assert code == 0, printed
    assert {name: part["status"] for name, part in parts.items()} == {
        "device": "ran",
        "loss": "ran",
        "learner": "ran",
        "phases": "ran",
        "ipc": "ran",
        "run": "not run",
    }
    assert parts["run"]["reason"] == "needs vllm, deepspeed, ray, pydantic, typer, rich"
    assert "| run | not run: needs vllm, deepspeed, ray, pydantic, typer, rich | | | |" in printed
    assert all(row["value"] >= 0 for part in parts.values() for row in part["rows"])

    loss = values(parts["loss"])
    assert loss["largest relative difference"] < 1e-4
    assert loss["chunked over full logits: peak memory"] < 0.5
    learner = values(parts["learner"])
    passes = "forward and backward, without recomputation"
    # A stated peak of 1 TFLOP/s makes MFU in percent a hundred times the TFLOP/s.
    assert learner[f"{passes}: MFU of the stated peak"] == pytest.approx(100 * learner[f"{passes}: model FLOPs"])
    assert "0.1 million parameters, 8 sequences" in printed
    phases = values(parts["phases"])
    assert {f"{name}: time" for name in ("generate", "score", "learn", "transfer", "evaluate")} <= phases.keys()
    assert phases["generate: transformers engine"] > 0
    sent = next(row for row in parts["phases"]["rows"] if row["what"] == "transfer: host path, verified")
    assert sent["unit"] == "GB/s"
    assert sent["note"].startswith("0.2 MB; ")
    assert values(parts["ipc"])["between processes: shared memory"] > 0
    assert "Time of the parts: device" in printed


@pytest.mark.slow
def test_without_transformers_the_device_is_still_measured(tmp_path: Path) -> None:
    code, printed, parts = report(
        tmp_path, "--device", "cpu", "--size", "tiny", "--parts", "device", "learner", "ipc", hide=("transformers",)
    )
    assert code == 0, printed
    assert parts["device"]["status"] == "ran"
    assert values(parts["device"])["copy on the device"] > 0
    assert "stated peak" not in values(parts["device"]), "no CPU is in the table"
    for name in ("learner", "ipc"):
        assert (parts[name]["status"], parts[name]["reason"]) == ("not run", "needs transformers")


def test_model_flops_are_those_that_torch_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, tiny: matrices of 2 * 4096 + 2 * 2048 + 3 * 8192 weights in each of 2 layers, 4 * 36,864 FLOPs a token.

    A loss token's head takes 2 * 64 * 512. Torch's counter knows no attention on a CPU, and counts what the chunked
    backward pass computes anew: a fourth product with the head.
    """
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    learner, device = importlib.import_module("gpu_learner"), importlib.import_module("gpu_device")
    bench = device.Bench("cpu", "tiny", tmp_path, None, {})
    policy, batches = learner.load_policy(bench), learner.make_batches(bench)
    tokens = sum(batch.input_ids.numel() for batch in batches)
    head = sum(batch.num_loss_tokens for batch in batches) * 65_536
    with FlopCounterMode(display=False) as counter:
        learner.backward(policy, batches)
    assert counter.get_total_flops() == 3 * tokens * 147_456 + 4 * head
    squares = sum(
        (end - start) ** 2 for batch in batches for start, end in itertools.pairwise(batch.documents.cu_seqlens)
    )
    expected = 3 * (tokens * 147_456 + head + 2 * 2 * 64 * squares)
    assert learner.model_flops(learner.SIZES["tiny"], batches) == expected


@pytest.mark.parametrize(("device", "placement"), [("cpu", "separate"), ("cuda", "colocated")])
def test_the_recipe_of_the_run_is_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, placement: str
) -> None:
    from rlvr.recipe.load import load_recipe

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("gpu_device").Bench(device, "tiny", tmp_path, None, {})
    monkeypatch.setattr(importlib.import_module("gpu_run"), "max_tokens", lambda bench: 4096)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')  # of the model that the script builds
    (tmp_path / "gpu.yaml").write_text(importlib.import_module("gpu_run").recipe_text(bench, tmp_path))
    recipe = load_recipe(tmp_path / "gpu.yaml")
    assert (recipe.resources.device, recipe.resources.placement) == (device, placement)
    assert recipe.stages[0].rollout.dtype == recipe.stages[0].learner.dtype == "bfloat16"


@pytest.mark.slow
def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path) -> None:
    code, printed, _ = report(tmp_path)
    assert code == 2
    assert "no CUDA device that torch sees; `--device cpu --size tiny` is a dry run" in printed


@pytest.mark.slow
def test_the_run_is_one_of_the_whole_stack(tmp_path: Path) -> None:
    """vLLM, DeepSpeed and Ray on the CPU: the phases that the run logs become rows."""
    code, printed, parts = report(tmp_path, "--device", "cpu", "--size", "tiny", "--parts", "device", "run")
    assert code == 0, printed
    found = values(parts["run"])
    for phase in ("rollout", "learn", "transfer", "evaluate"):
        assert found[f"run (CPU), {phase}: time"] > 0
    assert found["run (CPU), transfer, verified"] > 0
