"""A real run of the whole stack: vLLM, DeepSpeed and Ray; engine and learner share the GPU."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from gpu_device import Bench, Row, spread
from gpu_learner import SIZES, build_model, max_tokens
from gpu_phases import transfer_rows

TIMEOUT_S = 360
STEPS = 4
ROOT = Path(__file__).resolve().parent.parent

RECIPE = """
name: gpu
seed: 0
runs_dir: {scratch}
model: {{path: {model}}}
resources:
  device: {device}
  placement: {placement}
  engines: {{count: 1}}
  learners: {{count: 1}}
  rewards: {{count: 1, processes: 2}}
task:
  train: {{source: addition, digits: 2, size: 512, split: train}}
  test: {{source: addition, digits: 2, size: {prompts}, split: test}}
reward:
  terms:
    correct: {{fn: exact_match}}
rollout:
  prompts_per_step: {prompts}
  group_size: {group_size}
  max_prompt_tokens: 16
  max_completion_tokens: {completion_tokens}
  dtype: bfloat16
  gpu_memory_utilization: 0.4
  enforce_eager: true
evaluation: {{every: 1, at_start: false, at_end: true, num_prompts: {prompts}}}
monitor: {{tensorboard: false}}
stages:
  - kind: rl
    steps: {steps}
    preset: grpo
    objective: {{kl: {{coefficient: 0}}}}
    learner:
      zero_stage: 2
      dtype: bfloat16
      max_tokens_per_micro_batch: {max_tokens}
      optimizer: {{lr: 1.0e-6}}
"""


def recipe_text(bench: Bench, model: Path) -> str:
    """The recipe of the run on this device, with that model."""
    size = SIZES[bench.size]
    return RECIPE.format(
        scratch=bench.scratch / "runs",
        model=model,
        device=bench.device,
        placement="colocated" if bench.cuda else "separate",
        prompts=size.prompts,
        group_size=size.group_size,
        completion_tokens=size.completion_tokens,
        steps=STEPS,
        max_tokens=max_tokens(bench),
    )


def measure(bench: Bench) -> list[Row]:
    """Seconds of each phase and of an evaluation, GB/s of the verified transfer, memory where the run logs it."""
    recipe = bench.scratch / "gpu.yaml"
    recipe.write_text(recipe_text(bench, build_model(bench)))
    command = [sys.executable, "-m", "rlvr.cli.main", "train", str(recipe)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    if done.returncode:
        raise RuntimeError(f"the run ended with code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return rows_of(bench, bench.scratch / "runs" / "gpu", "colocated" if bench.cuda else "CPU")


def rows_of(bench: Bench, run: Path, how: str) -> list[Row]:
    """What metrics.jsonl says of the steps after the first, which pays for allocation and kernels."""
    from rlvr.observe.run_log import read_metrics

    logged = read_metrics(run)
    steps = [row["metrics"] for row in logged if row["stage_step"] > 1]
    assert len(steps) == STEPS - 1, f"{len(steps)} of {STEPS - 1} steps in {run}"
    columns = {
        name: [total / count for total, count in (step[name] for step in steps if name in step)]
        for name in sorted({name for step in steps for name in step})
    }
    rows = []
    for name, values in columns.items():
        if name.startswith("phase/"):
            what = name.removeprefix("phase/").removesuffix("_s")
            rows.append(Row(f"run ({how}), {what}: time", statistics.median(values), "s", spread(values)))
    extras = [row.get("extra", {}) for row in logged]
    evaluations = [extra["evaluation"]["seconds"] for extra in extras if "evaluation" in extra]
    rows.append(Row(f"run ({how}), evaluate: time", statistics.median(evaluations), "s", spread(evaluations)))
    num_bytes = 2 * SIZES[bench.size].parameters
    rows += transfer_rows(bench, f"run ({how}), transfer, verified", num_bytes, columns["phase/transfer_s"])
    return rows + [
        Row(f"run ({how}), {name}", max(values), "", "as the run logs it")
        for name, values in columns.items()
        if name.startswith("memory/")
    ]
