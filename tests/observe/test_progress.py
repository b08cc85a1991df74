"""The live view, rendered for real: on a terminal, in a log file, at narrow widths."""

import io
import math

import pytest
from rich.console import Console

from rlvr.observe.progress import Progress, clock, figure, plain_line, sparkline

VALUES = {
    "reward": 0.8125,
    "accuracy": 0.75,
    "tokens_per_s": 5120.4,
    "truncated": 0.0,
    "zero_variance": 0.3125,
    "entropy": 0.41,
    "something_else": 9.0,
    "phase/generate_s": 0.75,
    "phase/train_s": 0.25,
}


def test_sparkline_by_hand():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    # Six values in three parts: means 0.5, 2.5, 4.5 -> lowest, middle (3.5 rounds to 4, the fifth block), highest.
    assert sparkline([0, 1, 2, 3, 4, 5], 3) == "▁▅█"
    assert sparkline([2.0, 2.0], 5) == "▄▄"
    assert sparkline([0.0, math.nan, 1.0], 5) == "▁ █"
    assert sparkline([math.nan], 5) == " "
    assert sparkline([], 5) == ""
    assert len(sparkline(list(range(1001)), 37)) == 37


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8125, "0.812"), (27.06, "27.1"), (512.3, "512"), (5120.4, "5,120"), (0, "0.000"), (0.0042, "0.0042"),
     (3.1e-5, "3.1e-05"), (-0.25, "-0.250"), (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_figures(value, text):
    assert figure(value) == text


def test_clock():
    assert [clock(s) for s in (0, 61.9, 3725)] == ["0:00", "1:01", "1:02:05"]


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with Progress(Console(file=stream, width=40), 60, "rl") as progress:
        progress.update(7, VALUES)
        progress.note("evaluation [0.67, 0.75] /a/path/that/is/longer/than/the/console/is/wide")
    first, second = stream.getvalue().splitlines()  # one line each, however narrow the console
    assert first == plain_line("rl", 7, 60, VALUES)
    assert first == (
        "rl  7/60  reward 0.812  accuracy 0.750  tokens/s 5,120  zero variance 0.312  entropy 0.410"
        "  | generate 0.75s  train 0.25s"
    )
    assert second.startswith("evaluation [0.67, 0.75] /a/path")
    assert "\x1b" not in stream.getvalue()


def rendered(width: int, steps: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
    progress = Progress(console, 60, "rl")
    for step in range(1, steps + 1):
        progress.update(step, VALUES | {"reward": step / 60})
    console.print(progress.render())
    return console.export_text()


def test_the_panel_shows_where_it_is_whether_it_learns_and_what_takes_the_time():
    text = rendered(100, 30)
    assert "step 30/60" in text
    assert "left" in text
    assert "0.500" in text  # the last reward, 30 / 60
    assert "from 0.017" in text  # the first, 1 / 60
    assert sparkline([step / 60 for step in range(1, 31)], 60) in text
    assert "zero variance 0.312" in text
    assert "generate 0.75s" in text
    assert "something_else" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("steps", [0, 1, 60])
def test_the_panel_fits_its_width(width, steps):
    lines = rendered(width, steps).splitlines()
    assert {len(line) for line in lines} == {min(width, 100)}
    assert len(lines) < 20


def test_a_series_without_rewards_shows_its_loss():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, record=True)
    with Progress(console, 3, "sft") as progress:
        progress.update(1, {"loss": 3.0})
        progress.note("a line that stays")
        progress.update(2, {"loss": 1.5})
    text = console.export_text()
    assert "a line that stays" in text
    assert "step 2/3" in text
    assert "loss  1.500  █▁  from 3.000" in text


def test_the_live_view_ends_with_the_last_step_on_screen_after_an_error():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)

    def fail() -> None:
        with Progress(console, 3, "rl") as progress:
            progress.update(2, {"reward": 0.25})
            raise RuntimeError("worker died")

    with pytest.raises(RuntimeError, match="worker died"):
        fail()
    assert "0.250" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back
