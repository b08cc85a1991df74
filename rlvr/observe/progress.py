"""Live view of a stage: where it is, whether it learns, where the seconds go."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

MAX_PLAIN_LINES = 60
TICKS = "▁▂▃▄▅▆▇█"
PHASE_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
# What is drawn over time, in this order, where the stage reports it.
CURVES = ("reward", "accuracy", "loss")
# What stands below as numbers: name -> label.
FIGURES = {
    "tokens_per_s": "tokens/s",
    "completion_tokens": "length",
    "truncated": "truncated",
    "zero_variance": "zero variance",
    "failed": "failed",
    "entropy": "entropy",
    "kl": "kl",
    "grad_norm": "grad norm",
    "logprob_difference": "engine drift",
}


class Progress:
    """A panel that redraws itself on a terminal, a line for every so many steps anywhere else. A context manager.

    `update` takes the means of a step under the names of docs/metrics.md; it shows those it knows and ignores the rest.
    """

    def __init__(self, console: Console, total_steps: int, stage: str) -> None:
        self.console = console
        self.total_steps = total_steps
        self.stage = stage
        self.step = 0
        self._values: Mapping[str, float] = {}
        self._history: dict[str, list[float]] = {name: [] for name in CURVES}
        self._started = time.monotonic()
        self._ended: float | None = None
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        if self.console.is_terminal:
            # Four frames a second: the clock moves, and two cores are not kept busy with drawing.
            self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended = time.monotonic()
        if self._live is not None:
            self._live.refresh()
            self._live.stop()
            self._live = None

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the means of a finished step; `step` counts from 1 within the stage."""
        self.step = step
        self._values = values
        for name, history in self._history.items():
            if name in values:
                history.append(values[name])
        every = max(1, self.total_steps // MAX_PLAIN_LINES)
        if self._live is None and not self.console.is_terminal and (step % every == 0 or step == self.total_steps):
            self._print(plain_line(self.stage, step, self.total_steps, values))

    def note(self, message: str) -> None:
        """Prints a line that stays, above the panel: an evaluation, a checkpoint, a warning."""
        self._print(message)

    def _print(self, message: str) -> None:
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """The panel as it stands now."""
        elapsed = (self._ended or time.monotonic()) - self._started
        parts: list[RenderableType] = [_headline(self.step, self.total_steps, elapsed)]
        # What is left of a line after the borders, the label and the number.
        width = max(8, min(self.console.width, 100) - 40)
        curves = [(name, history) for name, history in self._history.items() if history]
        if curves:
            parts.append(_curve_table(curves, width))
        figures = [(label, self._values[name]) for name, label in FIGURES.items() if name in self._values]
        if figures:
            parts.append(_figure_columns(figures))
        phases = phases_of(self._values)
        if phases:
            parts += [Text(), _phase_bar(phases, min(self.console.width, 100) - 6), _phase_legend(phases)]
        return Panel(
            Group(*parts),
            title=Text(f" {self.stage} ", "bold"),
            title_align="left",
            border_style="dim",
            padding=(0, 2),
            width=min(self.console.width, 100),
        )


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as one line of block characters, at most `width` wide; longer series are averaged in equal parts.

    The lowest value is the lowest block and the highest the highest; a series without spread is drawn in the middle,
    a value that is not finite as a blank.
    """
    if len(values) > width:
        bounds = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, spread = min(finite), max(finite) - min(finite)
    return "".join(
        TICKS[round((value - low) / spread * 7) if spread else 3] if math.isfinite(value) else " " for value in values
    )


def plain_line(stage: str, step: int, total_steps: int, values: Mapping[str, float]) -> str:
    """One step on one line, for logs: rl 12/60  reward 0.812  accuracy 0.750  5,120 tokens/s  | generate 0.81 ... s."""
    parts = [f"{stage} {step:>{len(str(total_steps))}}/{total_steps}"]
    parts += [f"{name} {figure(values[name])}" for name in CURVES if name in values]
    parts += [f"{label} {figure(values[name])}" for name, label in FIGURES.items() if values.get(name)]
    phases = phases_of(values)
    if phases:
        parts.append("| " + "  ".join(f"{name} {seconds:.2f}s" for name, seconds in phases))
    return "  ".join(parts)


def figure(value: float) -> str:
    """Three or four significant digits, without an exponent where it can be helped: 0.0042, 0.812, 27.1, 5,120."""
    magnitude = abs(value)
    if magnitude >= 1000:
        return f"{value:,.0f}"
    if magnitude >= 100:
        return f"{value:.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    if magnitude >= 0.01 or value == 0:
        return f"{value:.3f}"
    return f"{value:.4f}" if magnitude >= 0.0005 else f"{value:.1e}"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def phases_of(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """(phase, seconds) of a step, in the order reported: the metrics named phase/<phase>_s."""
    return [
        (name.removeprefix("phase/").removesuffix("_s"), seconds)
        for name, seconds in values.items()
        if name.startswith("phase/") and name.endswith("_s")
    ]


def _headline(step: int, total_steps: int, elapsed: float) -> RenderableType:
    done = Text.assemble(("step ", "dim"), (f"{step}/{total_steps}", "bold"))
    left = f"   {clock(elapsed / step * (total_steps - step))} left" if 0 < step < total_steps else ""
    row = Table.grid(expand=True, padding=(0, 2))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(done, Bar(total_steps, 0, step, color="green", bgcolor="grey23"), Text(clock(elapsed) + left, "dim"))
    return row


def _curve_table(curves: Sequence[tuple[str, Sequence[float]]], width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, history in curves:
        first, last = figure(history[0]), figure(history[-1])
        change = Text(f"from {first}" if len(history) > 1 else "", "dim")
        table.add_row(Text(name, "dim"), Text(last, "bold"), Text(sparkline(history, width), "green"), change)
    return table


def _figure_columns(figures: Sequence[tuple[str, float]]) -> RenderableType:
    cells = [Text.assemble((f"{label} ", "dim"), figure(value), no_wrap=True) for label, value in figures]
    return Columns(cells, padding=(0, 3))


def _phase_bar(phases: Sequence[tuple[str, float]], width: int) -> RenderableType:
    """One bar, divided by where the seconds of the last step went."""
    total = sum(seconds for _, seconds in phases) or 1.0
    bar = Text(no_wrap=True)
    reached = drawn = 0.0
    for (_, seconds), style in zip(phases, _styles(phases), strict=True):
        reached += seconds
        cells = round(reached / total * width) - round(drawn)
        bar.append("━" * cells, style)
        drawn += cells
    return bar


def _phase_legend(phases: Sequence[tuple[str, float]]) -> RenderableType:
    cells = [
        Text.assemble(("● ", style), (f"{name} ", "dim"), f"{seconds:.2f}s", no_wrap=True)
        for (name, seconds), style in zip(phases, _styles(phases), strict=True)
    ]
    return Columns(cells, padding=(0, 3))


def _styles(phases: Sequence[object]) -> list[str]:
    return [PHASE_STYLES[i % len(PHASE_STYLES)] for i in range(len(phases))]
