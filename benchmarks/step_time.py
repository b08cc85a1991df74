"""Seconds per training step on one machine, measured side by side under the same thread budget.

    python benchmarks/step_time.py

trains the quickstart's cold start, then alternates rlvr and TRL's GRPOTrainer on that model and the same prompts, each
as a process of its own, and prints the ratio of their seconds per step with its spread.

    python benchmarks/step_time.py --side trl --model DIR --prompts FILE

measures one side and prints one JSON object: {"side", "median_s", "seconds": [...], "completion_tokens": [...]}. FILE
holds one prompt per line, or one JSON object with "prompt" per line (.jsonl). The first steps, which pay for allocation
and compilation, are not counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIDES = ("rlvr", "trl")
QUICKSTART = Path(__file__).resolve().parent.parent / "recipes" / "quickstart" / "addition.yaml"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SIDES, help="whose step is measured; both, alternating, if left out")
    parser.add_argument("--model", type=Path, help="local Hugging Face model directory with a tokenizer")
    parser.add_argument("--prompts", type=Path, help="text file, one prompt per line, or .jsonl")
    parser.add_argument("--rounds", type=int, default=3, help="how often the two sides alternate")
    parser.add_argument("--prompts-per-step", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16, help="completions per prompt")
    parser.add_argument("--max-completion-tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="steps that are measured")
    parser.add_argument("--warmup-steps", type=int, default=2, help="steps before them that are not")
    parser.add_argument("--threads", type=int, default=2, help="OpenMP threads of the whole side")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_prompts(path: Path) -> list[str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [json.loads(line)["prompt"] for line in lines] if path.suffix == ".jsonl" else lines


def main() -> None:
    arguments = parse_arguments()
    if arguments.side is None:
        compare(arguments)
        return
    if arguments.model is None or arguments.prompts is None:
        raise SystemExit("--side needs --model and --prompts")
    # Read once, when torch is imported; and waiting threads must sleep, or they take the core that another one needs.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Libraries print to stdout; the JSON object must stand there alone.
    result_stream, sys.stdout = sys.stdout, sys.stderr
    result = run_side(arguments)
    rollouts = arguments.prompts_per_step * arguments.group_size
    report = {"side": arguments.side, "rollouts": rollouts, "median_s": statistics.median(result["seconds"]), **result}
    print(json.dumps(report), file=result_stream)


def compare(arguments: argparse.Namespace) -> None:
    """Alternates the sides and prints medians, spread and ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        model, prompts = arguments.model, arguments.prompts
        if model is None or prompts is None:
            model, prompts = cold_start(Path(scratch))
        reports: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                reports[side].append(measure_side(side, model, prompts, arguments))
                print(f"{side}: {reports[side][-1]['median_s']:.3f} s per step", file=sys.stderr)
    print(table(reports))


def cold_start(scratch: Path) -> tuple[Path, Path]:
    """The quickstart's model after its supervised stage, and its held-out prompts."""
    from rlvr.controller.run import run_recipe
    from rlvr.recipe.load import load_recipe
    from rlvr.tasks.sources import load_rows

    recipe = load_recipe(QUICKSTART, [f"runs_dir={scratch}", "monitor.tensorboard=false"])
    task = recipe.stages[0].task
    assert task.test is not None
    result = run_recipe(recipe.model_copy(update={"stages": recipe.stages[:1]}))
    prompts = scratch / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in load_rows(task.test)))
    return result.run.export, prompts


def measure_side(side: str, model: Path, prompts: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    options = ("prompts_per_step", "group_size", "max_completion_tokens", "steps", "warmup_steps", "threads", "seed")
    command = [sys.executable, __file__, "--side", side, "--model", str(model), "--prompts", str(prompts)]
    for option in options:
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def table(reports: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row per side, then the ratio of each round."""
    lines = [
        "| side | s per step, median (min to max over rounds) | tokens per completion | phases, s |",
        "|---|---|---|---|",
    ]
    for side, rounds in reports.items():
        medians = [report["median_s"] for report in rounds]
        tokens = statistics.mean(n for report in rounds for n in report["completion_tokens"]) / rounds[0]["rollouts"]
        phases = {
            name.removeprefix("phase/").removesuffix("_s"): statistics.median(
                value for report in rounds for value in report["phases_s"][name]
            )
            for name in rounds[0].get("phases_s", {})
        }
        split = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items())
        lines.append(
            f"| {side} | {statistics.median(medians):.3f} ({min(medians):.3f} to {max(medians):.3f}) "
            f"| {tokens:.1f} | {split} |"
        )
    ratios = [trl["median_s"] / ours["median_s"] for ours, trl in zip(reports["rlvr"], reports["trl"], strict=True)]
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    lines.append(f"\nTRL's seconds per step over rlvr's: {statistics.median(ratios):.2f} (rounds: {rounds})")
    return "\n".join(lines)


def run_side(arguments: argparse.Namespace) -> dict[str, Any]:
    side = importlib.import_module(f"{arguments.side}_side")
    return side.measure(
        model=arguments.model,
        prompts=read_prompts(arguments.prompts),
        prompts_per_step=arguments.prompts_per_step,
        group_size=arguments.group_size,
        max_completion_tokens=arguments.max_completion_tokens,
        steps=arguments.steps,
        warmup_steps=arguments.warmup_steps,
        threads=arguments.threads,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    main()
