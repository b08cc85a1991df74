"""Seconds per training step on one machine, measured side by side under the same thread budget.

    python benchmarks/step_time.py --side trl --model DIR --prompts FILE --threads 2

prints one JSON object: {"side", "median_s", "seconds": [...], "completion_tokens": [...]}. FILE holds one prompt per
line, or one JSON object with "prompt" per line (.jsonl). The first steps, which pay for allocation and compilation, are
not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=("trl",), required=True, help="whose step is measured")
    parser.add_argument("--model", type=Path, required=True, help="local Hugging Face model directory with a tokenizer")
    parser.add_argument("--prompts", type=Path, required=True, help="text file, one prompt per line, or .jsonl")
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
    # Read once, when torch is imported; and waiting threads must sleep, or they take the core that another one needs.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Libraries print to stdout; the JSON object must stand there alone.
    result_stream, sys.stdout = sys.stdout, sys.stderr
    result = run_side(arguments)
    report = {"side": arguments.side, "median_s": statistics.median(result["seconds"]), **result}
    print(json.dumps(report), file=result_stream)


def run_side(arguments: argparse.Namespace) -> dict[str, Any]:
    import trl_side

    return trl_side.measure(
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
