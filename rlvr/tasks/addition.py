"""Additions with a worked solution: `47+85=` -> `7+5=12,4+8+1=13 \\boxed{132}`.

The solution goes from the units to the leading digits, as on paper, and writes every carry down. That makes each
number in it a function of a few characters before it, so that a model of under a million parameters can learn it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from functools import partial

from rlvr.recipe.schema import AdditionSource
from rlvr.tasks.generators import Row, distinct

CHARACTERS = "0123456789+=, \\boxed{}"


def rows(source: AdditionSource) -> list[Row]:
    """Rows of {prompt, answer, solution, hint, operands}; the hint is the first step of the solution.

    a+b and b+a always fall into the same split.
    """
    low, high = 10 ** (source.digits - 1) if source.digits > 1 else 0, 10**source.digits - 1

    def draw(rng: random.Random) -> tuple[Hashable, Hashable, Callable[[], Row]]:
        a, b = rng.randint(low, high), rng.randint(low, high)
        return (min(a, b), max(a, b)), (a, b), partial(_row, a, b)

    return distinct(draw, source.size, source.split, source.seed, f"{source.digits}-digit additions")


def _row(a: int, b: int) -> Row:
    solution = worked_solution(a, b)
    hint = solution.partition(" ")[0].partition(",")[0]
    return {"prompt": f"{a}+{b}=", "answer": str(a + b), "solution": solution, "hint": hint, "operands": [a, b]}


def worked_solution(a: int, b: int) -> str:
    """Column by column from the units: the two digits, from the second column on the carry, and their sum."""
    width = max(len(str(a)), len(str(b)))
    steps, carry = [], 0
    for column in range(width):
        digits = [a // 10**column % 10, b // 10**column % 10] + ([carry] if column else [])
        total = sum(digits)
        carry = total // 10
        steps.append("+".join(map(str, digits)) + f"={total}")
    return f"{','.join(steps)} \\boxed{{{a + b}}}"
