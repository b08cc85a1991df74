"""The learning rate, by hand."""

from __future__ import annotations

import pytest

from rlvr.learner.schedule import lr_factor


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 2, [0.5, 1, 1, 1, 1]),
        # From the peak at step 0 to 0.2 at step 4: 0.2 less each step.
        ("linear", 0, [1, 0.8, 0.6, 0.4, 0.2]),
        # Peak at step 1, the last of the warm-up; a third of 0.8 less at each of steps 2, 3, 4.
        ("linear", 2, [0.5, 1, 0.7333333, 0.4666667, 0.2]),
        # (1 + cos(pi k / 4)) / 2 = 1, 0.853553, 0.5, 0.146447, 0, times 0.8, plus 0.2.
        ("cosine", 0, [1, 0.8828427, 0.6, 0.3171573, 0.2]),
    ],
)
def test_factors_of_five_steps(schedule: str, warmup: int, expected: list[float]) -> None:
    assert [lr_factor(step, schedule, warmup, 5, 0.2) for step in range(5)] == pytest.approx(expected)


def test_stays_at_the_end() -> None:
    assert lr_factor(50, "cosine", 2, 5, 0.2) == pytest.approx(0.2)
    assert lr_factor(0, "linear", 0, 1, 0.0) == 1.0
