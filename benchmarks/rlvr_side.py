"""Seconds per step of rlvr's synchronous loop: vLLM engines, DeepSpeed ranks, reward processes, weight transfer.

Run as a process of its own, like the side that it is compared with. Two engines and two ranks of one thread each: the
phases alternate, so at any time two threads compute, which is the budget of the other side.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

RECIPE = """
name: step-time
seed: {seed}
runs_dir: {directory}
model: {{path: {model}}}
resources:
  device: cpu
  engines: {{count: {workers}, threads: 1}}
  learners: {{count: {workers}, threads: 1}}
  rewards: {{count: 1, processes: 1}}
task:
  train: {{source: jsonl, path: {directory}/prompts.jsonl, columns: {{answer: null}}}}
reward:
  terms:
    parity: {{fn: "{reward}:parity"}}
rollout:
  prompts_per_step: {prompts_per_step}
  group_size: {group_size}
  max_prompt_tokens: 64
  max_completion_tokens: {max_completion_tokens}
evaluation: {{at_start: false, at_end: false}}
monitor: {{tensorboard: false}}
stages:
  - kind: rl
    steps: {steps}
    preset: grpo
    objective: {{kl: {{coefficient: 0}}, aggregation: token_mean}}
    learner:
      zero_stage: 2
      max_tokens_per_micro_batch: 8192
      optimizer: {{lr: 1.0e-6}}
"""


def measure(
    model: Path,
    prompts: list[str],
    prompts_per_step: int,
    group_size: int,
    max_completion_tokens: int,
    steps: int,
    warmup_steps: int,
    threads: int,
    seed: int,
) -> dict[str, Any]:
    """Trains warmup_steps + steps steps; seconds, tokens and phase seconds of each step after the warm-up."""
    from rlvr.controller.run import run_recipe
    from rlvr.observe.run_log import read_metrics
    from rlvr.recipe.load import load_recipe

    with tempfile.TemporaryDirectory() as directory:
        rows = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        Path(directory, "prompts.jsonl").write_text(rows)
        recipe = Path(directory, "recipe.yaml")
        recipe.write_text(
            RECIPE.format(
                seed=seed,
                directory=directory,
                model=model.resolve(),
                workers=threads,
                reward=Path(__file__).with_name("parity_reward.py"),
                prompts_per_step=prompts_per_step,
                group_size=group_size,
                max_completion_tokens=max_completion_tokens,
                steps=warmup_steps + steps,
            )
        )
        result = run_recipe(load_recipe(recipe))
        logged = read_metrics(result.run.path)
    measured = [row["metrics"] for row in logged if row["stage_step"] > warmup_steps]
    assert len(measured) == steps, (len(measured), steps)
    phases = [name for name in measured[0] if name.startswith("phase/")]
    return {
        "seconds": [metrics["step_s"][0] for metrics in measured],
        "completion_tokens": [int(metrics["completion_tokens"][0]) for metrics in measured],
        "phases_s": {name: [metrics.get(name, (0.0, 1.0))[0] for metrics in measured] for name in phases},
    }
