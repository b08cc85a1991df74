"""What one GPU gives, in under ten minutes: a table in Markdown, and the same as JSON.

    python benchmarks/gpu.py                          # prints the table
    python benchmarks/gpu.py --output report.md       # and writes report.md and report.json
    python benchmarks/gpu.py --device cpu --size tiny # a dry run of the same code, for its form and not its figures

Parts whose packages are missing are reported as not run. `device`, `loss`, `learner`, `phases` and `ipc` need torch and
transformers alone; `run` is a run of the whole stack with engine and learner on the same GPU. The exit code is 1 where
a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

# Where rlvr is not installed: a checkout is enough.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gpu_device
import gpu_learner
import gpu_phases
import gpu_run
import torch
from gpu_device import Bench, Row, spread

MODELS = ("transformers", "tokenizers")
STACK = (*MODELS, "vllm", "deepspeed", "ray", "pydantic", "typer", "rich")


@dataclass(slots=True)
class Outcome:
    """What became of a part: `status` is ran, not run or failed, and `reason` says why where it is not the first."""

    part: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)


def measure_loss(bench: Bench) -> list[Row]:
    """The learner's logprobs, entropies and loss against full logits, as benchmarks/objectives.py measures them."""
    import objectives

    size = gpu_learner.SIZES[bench.size]
    options = SimpleNamespace(
        device=bench.device,
        dtype="bfloat16" if bench.cuda else "float32",
        tokens=size.loss_tokens,
        hidden=size.hidden,
        vocabulary=size.loss_vocabulary,
        chunk=size.loss_chunk,
        temperature=1.0,
        rounds=5 if bench.cuda else 1,
    )
    found = objectives.compare(options)
    shape = f"{options.tokens} tokens, vocabulary {options.vocabulary}, chunk {options.chunk}, {options.dtype}"
    rows = [
        Row("chunked over full logits: time", median(found.times), "ratio", f"{shape}; {spread(found.times)}"),
        Row("chunked over full logits: peak memory", median(found.memory), "ratio", spread(found.memory)),
    ]
    rows += [Row(f"{name}: peak memory", median(peaks), "MiB", "") for name, peaks in found.peaks.items()]
    return [*rows, Row("largest relative difference", found.difference, "", "loss, entropy and both gradients")]


PARTS: dict[str, tuple[tuple[str, ...], gpu_phases.Part]] = {
    "device": ((), gpu_device.measure),
    "loss": ((), measure_loss),
    "learner": (MODELS, gpu_learner.measure),
    "phases": (MODELS, gpu_phases.measure),
    "ipc": (MODELS, gpu_phases.measure_between_processes),
    "run": (STACK, gpu_run.measure),
}


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    found = []
    for package in packages:
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            found.append(package)
    return found


def run_part(name: str, bench: Bench) -> Outcome:
    """One part; what it raises is its outcome, so that the others still run."""
    packages, measure = PARTS[name]
    absent = missing(packages)
    if absent:
        return Outcome(name, "not run", f"needs {', '.join(absent)}")
    start = time.perf_counter()
    try:
        outcome = Outcome(name, "ran", rows=measure(bench))
    except Exception as error:  # noqa: BLE001  # any failure of a part is a finding, and the next part's is another
        traceback.print_exc()
        outcome = Outcome(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    outcome.seconds = time.perf_counter() - start
    gc.collect()
    if bench.cuda:
        torch.cuda.empty_cache()
    return outcome


def markdown(machine: dict[str, Any], outcomes: list[Outcome]) -> str:
    """A line on the machine, a table of all rows, the parts that did not run, and what the shares are of."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["| part | what | value | unit | note |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        for row in outcome.rows:
            value = "" if row.value is None else f"{row.value:.4g}"
            lines.append(f"| {outcome.part} | {row.what} | {value} | {row.unit} | {row.note} |")
        if outcome.status != "ran":
            lines.append(f"| {outcome.part} | {outcome.status}: {outcome.reason} | | | |")
    spent = ", ".join(f"{outcome.part} {outcome.seconds:.0f} s" for outcome in outcomes if outcome.seconds)
    lines += ["", f"Time of the parts: {spent}."]
    lines.append(
        "MFU counts the model's FLOPs without recomputation: forward L (2 (2 d^2 + 2 d k + 3 d f) + 2 d T) per token "
        "and 2 d V per loss token, three times that with the backward pass (benchmarks/gpu_learner.py)."
    )
    return "\n".join(lines) + "\n"


def describe(bench: Bench) -> dict[str, Any]:
    """What the figures belong to."""
    from rlvr.cluster.versions import versions

    machine: dict[str, Any] = {"device": gpu_device.device_name(bench.device), "size": bench.size}
    if bench.cuda:
        machine["memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        machine["cuda"] = torch.version.cuda
    return machine | {name: version or "absent" for name, version in versions().items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="0.5b", choices=sorted(gpu_learner.SIZES))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak of a device that the table lacks")
    parser.add_argument("--output", type=Path, help="Markdown file; the JSON stands beside it")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device that torch sees; `--device cpu --size tiny` is a dry run", file=sys.stderr)
        return 2
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # DeepSpeed logs to stdout once it is imported; the report has that for itself.
    with tempfile.TemporaryDirectory(prefix="rlvr-gpu-") as scratch, contextlib.redirect_stdout(sys.stderr):
        bench = Bench(options.device, options.size, Path(scratch), options.peak_tflops, {})
        outcomes = []
        for name in options.parts:
            outcomes.append(run_part(name, bench))
            print(f"{name}: {outcomes[-1].status}, {outcomes[-1].seconds:.0f} s", file=sys.stderr)
        machine = describe(bench)
    text = markdown(machine, outcomes)
    print(text)
    if options.output is not None:
        options.output.write_text(text)
        report = {"machine": machine, "parts": [asdict(outcome) for outcome in outcomes]}
        options.output.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    return int(any(outcome.status == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
