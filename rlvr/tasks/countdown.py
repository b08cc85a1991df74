"""Countdown: reach a target from given numbers with + - * /, each number used exactly once.

`[3,7,2]=17:` -> `7*2=14,14+3=17 \\boxed{(7*2)+3}`: the steps, then the expression that the verifier evaluates.
Intermediate results are non-negative integers, as in the game.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from functools import partial

from rlvr.recipe.schema import CountdownSource
from rlvr.tasks.generators import Row, distinct

CHARACTERS = "0123456789+-*/()[]=,: \\boxed{}"


def rows(source: CountdownSource) -> list[Row]:
    """Rows of {prompt, answer, solution, numbers, target}; the order of the numbers does not make another problem."""

    def draw(rng: random.Random) -> tuple[Hashable, Hashable, Callable[[], Row]] | None:
        numbers = [rng.randint(1, source.max_number) for _ in range(source.num_operands)]
        reached = _combine(numbers, rng)
        if reached is None or not 1 <= reached[0] <= source.max_target:
            return None
        key = (tuple(sorted(numbers)), reached[0])
        return key, key, partial(_row, numbers, *reached)

    space = f"countdown with {source.num_operands} numbers up to {source.max_number}, targets up to {source.max_target}"
    return distinct(draw, source.size, source.split, source.seed, space)


def _row(numbers: list[int], target: int, steps: list[str], expression: str) -> Row:
    return {
        "prompt": f"[{','.join(map(str, numbers))}]={target}:",
        "answer": str(target),
        "solution": f"{','.join(steps)} \\boxed{{{expression}}}",
        "numbers": numbers,
        "target": target,
    }


def _combine(numbers: list[int], rng: random.Random) -> tuple[int, list[str], str] | None:
    """Joins the numbers two by two by random operations: (result, steps such as '7*2=14', expression), or None."""
    pool = [(number, str(number), True) for number in numbers]
    steps = []
    while len(pool) > 1:
        (a, left, left_atom), (b, right, right_atom) = (pool.pop(rng.randrange(len(pool))) for _ in range(2))
        operation = rng.choice("+-*/")
        if (operation == "/" and (b == 0 or a % b)) or (operation == "-" and a < b):
            return None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[operation]
        steps.append(f"{a}{operation}{b}={value}")
        expression = f"{left if left_atom else f'({left})'}{operation}{right if right_atom else f'({right})'}"
        pool.append((value, expression, False))
    return pool[0][0], steps, pool[0][1]
