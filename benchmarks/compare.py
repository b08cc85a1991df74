"""Trains several recipes on several seeds and prints one table of held-out accuracy against steps.

    python benchmarks/compare.py recipes/quickstart/addition.yaml recipes/quickstart/addition-steps.yaml --seeds 0 1 2

    python benchmarks/compare.py --seeds 0 1 --output benchmarks/methods.md \\
        recipes/methods/{grpo,dr_grpo,dapo,bnpo,gspo,cispo,rloo,reinforce_plus_plus,ppo,vapo}.yaml

The first recipe is the baseline: for each other one the table says after how many steps it reached the accuracy that
the baseline ended with on the same seed. Runs are kept under runs/, so that an interrupted comparison goes on where
it stopped; every run that was made is in the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RLVR = Path(sys.executable).with_name("rlvr")


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy of one run by steps of its last stage, with intervals."""

    accuracy: dict[int, tuple[float, float, float]]
    seconds: float

    @property
    def final(self) -> tuple[float, float, float]:
        return self.accuracy[max(self.accuracy)]

    def reached(self, accuracy: float) -> int | None:
        """The first evaluated step from which the accuracy was at least this."""
        return next((step for step, (value, _, _) in sorted(self.accuracy.items()) if value >= accuracy), None)


def train(recipe: Path, seed: int, every: int, overrides: list[str]) -> Curve:
    """Runs a recipe, or takes a finished run of it, and reads its curve."""
    name = f"compare-{recipe.stem}-{seed}"
    run = Path("runs") / name
    if not _is_finished(run):
        command = [str(RLVR), "train", str(recipe), "--replace", f"name={name}", f"seed={seed}"]
        command += [f"stages.rl.evaluation.every={every}", *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((run / "summary.json").read_text())
    return Curve(_accuracies(run / "metrics.jsonl"), summary["total_seconds"])


def _is_finished(run: Path) -> bool:
    """Also an interrupted run leaves a summary."""
    summary = run / "summary.json"
    return summary.is_file() and json.loads(summary.read_text())["status"] == "finished"


def _accuracies(metrics: Path) -> dict[int, tuple[float, float, float]]:
    """Steps of the stage `rl` -> (greedy accuracy, low, high)."""
    found = {}
    before = 0
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        if row["stage"] != "rl":
            before = row["step"]  # steps of the stages before it
        evaluation = (row.get("extra") or row).get("evaluation")
        if row["stage"] == "rl" and evaluation:
            estimate = evaluation["metrics"]["accuracy"]
            found[row["step"] - before] = (estimate["value"], estimate["low"], estimate["high"])
    return found


def table(recipes: list[Path], seeds: list[int], curves: dict[tuple[Path, int], Curve]) -> str:
    """One row per recipe and seed, then the means."""
    steps = sorted({step for curve in curves.values() for step in curve.accuracy})
    shown = [step for step in steps if step % 10 == 0 and step != steps[-1]]
    header = [
        "recipe",
        "seed",
        *(f"{step} steps" for step in shown),
        f"{steps[-1]} steps",
        "reaches the baseline's end",
    ]
    lines = ["| " + " | ".join([*header, "s"]) + " |", "|" + "---|" * (len(header) + 1)]
    for recipe in recipes:
        for seed in seeds:
            curve, baseline = curves[recipe, seed], curves[recipes[0], seed]
            value, low, high = curve.final
            reached = curve.reached(baseline.final[0])
            cells = [recipe.stem, str(seed), *(f"{curve.accuracy[s][0]:.3f}" for s in shown)]
            cells += [f"{value:.3f} [{low:.3f}, {high:.3f}]", "never" if reached is None else f"after {reached}"]
            lines.append("| " + " | ".join([*cells, f"{curve.seconds:.0f}"]) + " |")
    for recipe in recipes if len(seeds) > 1 else ():
        mean = [statistics.mean(curves[recipe, seed].accuracy[s][0] for seed in seeds) for s in [*shown, steps[-1]]]
        all_reached = [curves[recipe, seed].reached(curves[recipes[0], seed].final[0]) for seed in seeds]
        cells = [recipe.stem, "mean", *(f"{value:.3f}" for value in mean), _mean_reached(all_reached), ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_reached(reached: list[int | None]) -> str:
    known = [step for step in reached if step is not None]
    mean = f"{statistics.mean(known):.0f} steps" if known else "-"
    return f"{mean}, {len(known)} of {len(reached)} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="overrides for every run: key=value")
    parser.add_argument("--output", type=Path, help="also write the table to this page, below what it was made with")
    options = parser.parse_args()
    curves = {}
    for seed in options.seeds:
        for recipe in options.recipes:
            curves[recipe, seed] = train(recipe, seed, options.every, options.overrides)
            value, low, high = curves[recipe, seed].final
            print(f"{recipe.stem}, seed {seed}: {value:.3f} [{low:.3f}, {high:.3f}]", file=sys.stderr, flush=True)
    found = table(options.recipes, options.seeds, curves)
    print(found)
    if options.output is not None:
        options.output.write_text(page(found, options), encoding="utf-8")


def page(found: str, options: argparse.Namespace) -> str:
    """The table as a page of its own: what it shows, how it was made, every run of it."""
    command = ["python benchmarks/compare.py", *map(str, options.recipes), "--seeds", *map(str, options.seeds)]
    command += [
        "--output",
        str(options.output),
        "--every",
        str(options.every),
        *(["--set", *options.overrides] if options.overrides else []),
    ]
    head = f"""# Methods on two-digit addition

Held-out greedy accuracy against rollout steps, with the 95% bootstrap interval of the last evaluation. Every recipe ran
once per seed, as it stands; no run was left out, and no setting was chosen by these results. All start from the cold
start of the quickstart on the same seed. Differences within the intervals, or between two seeds of one method, are no
differences; a task this small says nothing of which method is better elsewhere. The last column
is wall-clock seconds beside whatever else the machine was doing: no measure of speed.

```
{" ".join(command)}
```

"""
    return head + found + "\n"


if __name__ == "__main__":
    main()
