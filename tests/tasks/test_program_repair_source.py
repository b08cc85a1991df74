"""Programs to repair: faulty as told, right where told, and never in both splits."""

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.schema import ProgramRepairSource
from rlvr.tasks.program_repair import CHARACTERS, numbered, program_of, run
from rlvr.tasks.sources import load_rows


def source(**settings: object) -> ProgramRepairSource:
    return ProgramRepairSource(**({"source": "program_repair", "size": 200} | settings))


def test_programs_do_what_their_names_say() -> None:
    """add3_mul2(4) = (4+3)*2 = 14."""
    lines = program_of((("add", 3), ("mul", 2)), "x")
    assert lines == ["def add3_mul2(x):", " x=x+3", " x=x*2", " return x"]
    assert run(lines, [4]) == [14]
    assert numbered(lines[:2]) == "1 def add3_mul2(x):\n2  x=x+3"


@pytest.mark.parametrize("bug", ["operator", "constant", "variable", "syntax"])
@pytest.mark.parametrize("num_bugs", [1, 2])
def test_rows_are_faulty_in_as_many_lines_as_asked(bug: str, num_bugs: int) -> None:
    for row in load_rows(source(bugs=(bug,), num_bugs=num_bugs, num_operations=3)):
        right, wrong = row["answer"].split("\n"), row["program"].split("\n")
        assert sum(a != b for a, b in zip(right, wrong, strict=True)) == num_bugs
        assert row["bugs"] == [bug] * num_bugs
        arguments, values = zip(*row["tests"], strict=True)
        assert run(right, arguments) == list(values)
        passed = [got == value for got, value in zip(run(wrong, arguments), values, strict=True)]
        assert row["passing"] == sum(passed) / 3 < 1
        if bug in ("variable", "syntax"):
            assert row["passing"] == 0
        assert row["prompt"] == numbered(wrong) + "\n>"


def test_the_solution_is_a_conversation_that_ends_in_submission() -> None:
    (row,) = load_rows(source(size=1, num_operations=1))
    fixed = row["answer"].split("\n")[1]
    assert row["solution"] == [f"edit 2 {fixed}", "\nok\n>", "test", "\n3/3 pass\n>", "submit"]


def test_splits_share_no_name_whatever_the_seed() -> None:
    names = [
        {
            row["answer"].partition("(")[0]
            for row in load_rows(source(split=split, seed=seed, num_operations=1, size=60))
        }
        for split, seed in (("train", 0), ("test", 7))
    ]
    assert names[0].isdisjoint(names[1])


def test_seeds_decide_and_repeat() -> None:
    assert load_rows(source(seed=1)) == load_rows(source(seed=1))
    assert load_rows(source(seed=1)) != load_rows(source(seed=2))


def test_every_character_is_in_the_alphabet() -> None:
    for row in load_rows(source(bugs=("operator", "constant", "variable", "syntax"), max_number=99)):
        assert set(row["prompt"] + row["answer"] + "".join(row["solution"])) <= set(CHARACTERS)


def test_a_space_that_is_too_small_is_refused() -> None:
    with pytest.raises(RecipeError, match="programs of 1 operations"):
        load_rows(source(num_operations=1, max_number=2, size=4096))
