"""Small Python programs with a bug, for the environment of the same name: what is wrong, its tests, how it is mended.

The name of a program says what it should do (`add3_mul2` adds 3, then multiplies by 2), so that the repair can be
found by reading, and a model of under a million parameters can learn it; the tests decide.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from rlvr.recipe.schema import ProgramRepairSource
from rlvr.tasks.generators import Row, distinct

CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"
SIGNS = {"add": "+", "sub": "-", "mul": "*"}
VARIABLES = "abcnxyz"
MAX_ARGUMENT = 20
PROMPT_SIGN = "\n>"
"""What prompts and observations end with: the policy's turn. The environment writes the same."""

Operation = tuple[str, int]


def rows(source: ProgramRepairSource) -> list[Row]:
    """Rows of {prompt, answer, solution, program, tests, passing, bugs}.

    `program` is the faulty source and `answer` the right one; `tests` are [argument, value] pairs of its function;
    `passing` is the share of them that the faulty one passes; `solution` is a conversation: action, observation, ...,
    action. Programs of one name always fall into the same split.
    """

    def draw(rng: random.Random) -> tuple[Hashable, Hashable, Callable[[], Row]] | None:
        operations = tuple((rng.choice([*SIGNS]), rng.randint(1, source.max_number)) for _ in range(count))
        variable = rng.choice(VARIABLES)
        right = program_of(operations, variable)
        wrong, kinds = _broken(right, source, rng)
        arguments = sorted(rng.sample(range(MAX_ARGUMENT + 1), source.num_tests))
        values = run(right, arguments)
        tests = [[argument, value] for argument, value in zip(arguments, values, strict=True) if value is not None]
        got = run(wrong, [argument for argument, _ in tests])
        passing = sum(result == value for result, (_, value) in zip(got, tests, strict=True)) / len(tests)
        if passing == 1.0:
            return None
        return operations, tuple(wrong), partial(_row, right, wrong, tests, passing, kinds)

    count = source.num_operations
    return distinct(draw, source.size, source.split, source.seed, f"programs of {count} operations with bugs")


def program_of(operations: Sequence[Operation], variable: str) -> list[str]:
    """The lines of a right program."""
    name = "_".join(f"{operation}{number}" for operation, number in operations)
    body = [f" {variable}={variable}{SIGNS[operation]}{number}" for operation, number in operations]
    return [f"def {name}({variable}):", *body, f" return {variable}"]


def numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number} {line}" for number, line in enumerate(lines, 1))


def run(lines: Sequence[str], arguments: Sequence[int]) -> list[int | None]:
    """The values of a program made here, None where it raises. Never for code that a model wrote."""
    names: dict[str, Callable[[int], int]] = {}
    try:
        exec("\n".join(lines), {}, names)  # arithmetic that this file wrote
    except SyntaxError:
        return [None] * len(arguments)
    return [_value(next(iter(names.values())), argument) for argument in arguments]


def _value(function: Callable[[int], int], argument: int) -> int | None:
    try:
        return function(argument)
    except NameError:
        return None


def _broken(right: list[str], source: ProgramRepairSource, rng: random.Random) -> tuple[list[str], list[str]]:
    """A copy with `num_bugs` statements made wrong, and the kinds of the bugs."""
    lines = list(right)
    places = rng.sample(range(1, len(lines) - 1), min(source.num_bugs, len(lines) - 2))
    kinds: list[str] = [rng.choice(source.bugs) for _ in places]
    for place, kind in zip(places, kinds, strict=True):
        lines[place] = _bug(lines[place], kind, source.max_number, rng)
    return lines, kinds


def _bug(line: str, kind: str, max_number: int, rng: random.Random) -> str:
    """` a=a+3` with another sign, another number, another name, or its end missing."""
    head, sign, number = line[:4], line[4], int(line[5:])
    if kind == "operator":
        sign = rng.choice([other for other in SIGNS.values() if other != sign])
    elif kind == "constant":
        number = rng.choice([other for other in range(1, max_number + 1) if other != number])
    elif kind == "variable":
        head = head[:3] + rng.choice([name for name in VARIABLES if name != head[1]])
    else:
        assert kind == "syntax", kind
        return head + sign
    return f"{head}{sign}{number}"


def _row(right: list[str], wrong: list[str], tests: list[list[int]], passing: float, kinds: list[str]) -> Row:
    both = enumerate(zip(right, wrong, strict=True), 1)
    edits = [f"edit {number} {line}" for number, (line, was) in both if line != was]
    passed = f"{len(tests)}/{len(tests)} pass"
    solution = [part for edit in edits for part in (edit, f"\nok{PROMPT_SIGN}")]
    solution += ["test", f"\n{passed}{PROMPT_SIGN}", "submit"]
    return {
        "prompt": numbered(wrong) + PROMPT_SIGN,
        "answer": "\n".join(right),
        "solution": solution,
        "program": "\n".join(wrong),
        "tests": tests,
        "passing": passing,
        "bugs": kinds,
    }
