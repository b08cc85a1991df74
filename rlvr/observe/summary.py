"""What a run came to: summary.json and the table at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlvr.metrics import merge
from rlvr.observe.files import to_json, write_atomically
from rlvr.observe.progress import clock

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Accuracy:
    """Held-out accuracy (a share) of `num_prompts` prompts, with its bootstrap interval."""

    value: float
    low: float
    high: float
    num_prompts: int


@dataclass(frozen=True)
class StageSummary:
    """One stage: accuracies are None where the recipe did not evaluate. Seconds are those of steps and evaluations.

    `phases_s` holds the seconds of each phase, summed over steps; what is not in it is start-up and evaluation.
    """

    name: str
    kind: str
    steps: int
    seconds: float
    before: Accuracy | None = None
    after: Accuracy | None = None
    generated_tokens: int = 0
    trained_tokens: int = 0
    phases_s: Mapping[str, float] = field(default_factory=dict)


def summarise(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> list[StageSummary]:
    """Stages from the lines of metrics.jsonl (`run_log.read_metrics`), in the order of `kinds` (stage name -> kind)."""
    return [_stage_summary(name, kind, [row for row in rows if row["stage"] == name]) for name, kind in kinds.items()]


def _stage_summary(name: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> StageSummary:
    evaluations = [row["extra"]["evaluation"] for row in rows if "evaluation" in row.get("extra", {})]
    scored = [evaluation for evaluation in evaluations if "accuracy" in evaluation["metrics"]]
    accuracies = [Accuracy(**e["metrics"]["accuracy"], num_prompts=e["num_prompts"]) for e in scored]
    totals = merge(row["metrics"] for row in rows)
    phases = {metric: total for metric, (total, _) in totals.items() if metric.startswith("phase/")}
    step_s, steps = totals.get("step_s", (0.0, 0.0))
    return StageSummary(
        name=name,
        kind=kind,
        steps=int(steps),
        seconds=step_s + sum(evaluation["seconds"] for evaluation in evaluations),
        before=accuracies[0] if len(accuracies) > 1 else None,
        after=accuracies[-1] if accuracies else None,
        generated_tokens=int(totals.get("tokens/generated", (0.0, 0.0))[0]),
        trained_tokens=int(totals.get("trained_tokens", (0.0, 0.0))[0]),
        phases_s={metric.removeprefix("phase/").removesuffix("_s"): total for metric, total in phases.items()},
    )


def write_summary(run_dir: Path, stages: Sequence[StageSummary], facts: Mapping[str, Any] | None = None) -> Path:
    """Writes summary.json atomically: {**facts, "seconds", "stages": [...]}. `facts`: name, status, versions, paths."""
    path = Path(run_dir) / SUMMARY_FILE
    total = sum(stage.seconds for stage in stages)
    rows = [asdict(stage) for stage in stages]
    write_atomically(path, [to_json({**(facts or {}), "seconds": total, "stages": rows}, indent=2)])
    return path


def read_summary(run_dir: Path) -> dict[str, Any]:
    """summary.json as it was written."""
    summary: dict[str, Any] = json.loads((Path(run_dir) / SUMMARY_FILE).read_text(encoding="utf-8"))
    return summary


def render_summary(stages: Sequence[StageSummary], title: str = "") -> RenderableType:
    """The final table: a row per stage (tokens generated, or trained on if none were), phase splits below it."""
    table = Table(title=title or None, title_style="bold", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("stage", style="bold", no_wrap=True)
    for column in ("steps", "time", "tokens", "accuracy before", "after", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage in stages:
        table.add_row(
            stage.name,
            f"{stage.steps:,}" if stage.steps else "",
            clock(stage.seconds),
            _tokens(stage.generated_tokens or stage.trained_tokens),
            _accuracy(stage.before),
            _accuracy(stage.after),
            _change(stage),
        )
    splits = [_phase_split(stage) for stage in stages if stage.phases_s]
    return Group(table, *splits)


def _accuracy(accuracy: Accuracy | None) -> Text:
    """Per cent, with the interval: 87.1 [84.2, 89.8]."""
    if accuracy is None:
        return Text("")
    interval = f" [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"
    return Text.assemble((f"{100 * accuracy.value:.1f}%", "bold"), (interval, "dim"))


def _change(stage: StageSummary) -> Text:
    if stage.before is None or stage.after is None:
        return Text("")
    change = stage.after.value - stage.before.value
    # Coloured only where the intervals are apart: the eye should not celebrate noise.
    apart = stage.after.low > stage.before.high or stage.after.high < stage.before.low
    return Text(f"{100 * change:+.1f}", ("bold green" if change > 0 else "bold red") if apart else "")


def _tokens(count: int) -> str:
    if count >= 10_000_000:
        return f"{count / 1e6:,.0f}M"
    return f"{count / 1e3:,.0f}k" if count >= 10_000 else (f"{count:,}" if count else "")


def _phase_split(stage: StageSummary) -> Text:
    """`rl: generate 61%  train 30%  ... of 82 s in steps`."""
    total = sum(stage.phases_s.values())
    line = Text(f"{stage.name}: ", "dim")
    for name, seconds in sorted(stage.phases_s.items(), key=lambda item: -item[1]):
        line.append(f"{name} ", "dim")
        line.append(f"{seconds / total:.0%}  " if total else "")
    line.append(f"of {total:.1f} s" + (f", {total / stage.steps:.2f} s per step" if stage.steps else ""), "dim")
    return line
