"""Generators: problems are right, distinct, seeded, and train never meets test."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.countdown import countdown as verify_countdown
from rlvr.errors import RecipeError
from rlvr.recipe.schema import AdditionSource, CountdownSource
from rlvr.tasks import addition, countdown
from rlvr.tasks.sources import load_rows


def additions(**options):
    return load_rows(AdditionSource(source="addition", **options))


def countdowns(**options):
    return load_rows(CountdownSource(source="countdown", **options))


def test_worked_solutions_by_hand():
    # 7+5=12, carry 1; 4+8+1=13: 132.
    assert addition.worked_solution(47, 85) == r"7+5=12,4+8+1=13 \boxed{132}"
    assert addition.worked_solution(23, 45) == r"3+5=8,2+4+0=6 \boxed{68}"
    assert addition.worked_solution(999, 1) == r"9+1=10,9+0+1=10,9+0+1=10 \boxed{1000}"
    assert addition.worked_solution(0, 0) == r"0+0=0 \boxed{0}"


@given(st.integers(0, 999_999), st.integers(0, 999_999))
def test_a_worked_solution_holds_step_by_step(a, b):
    steps, _, boxed = addition.worked_solution(a, b).partition(" ")
    assert boxed == f"\\boxed{{{a + b}}}"
    sums = []
    for step in steps.split(","):
        terms, total = step.split("=")
        assert sum(map(int, terms.split("+"))) == int(total)
        sums.append(int(total))
    # The last digits of the sums, read backwards, are the answer; the last sum gives its leading digits too.
    assert int(str(sums[-1]) + "".join(str(total % 10) for total in reversed(sums[:-1]))) == a + b


def test_two_digit_additions_train_and_test_are_disjoint_even_when_turned_round():
    train, test = additions(size=4096, seed=3), additions(size=512, split="test", seed=8)
    assert len({row["prompt"] for row in train}) == 4096
    assert len({row["prompt"] for row in test}) == 512
    turned = {tuple(sorted(row["operands"])) for row in train} & {tuple(sorted(row["operands"])) for row in test}
    assert turned == set()
    for row in train:
        a, b = row["operands"]
        assert 10 <= a <= 99
        assert 10 <= b <= 99
        assert (row["prompt"], row["answer"]) == (f"{a}+{b}=", str(a + b))
    # The demo's budget: about 27 tokens a completion, eos included.
    assert 25 < sum(len(row["solution"]) + 1 for row in train) / 4096 < 28


def test_the_whole_space_is_split_once():
    # Two-digit pairs are 90 x 90 = 8100; together the splits hold each once.
    found = {}
    for split in ("train", "test"):
        with pytest.raises(RecipeError, match=r"size=9000: the .* split of 2-digit additions holds (\d+)") as caught:
            additions(size=9000, split=split)
        found[split] = int(re.search(r"holds (\d+)", str(caught.value)).group(1))
    assert sum(found.values()) == 8100
    assert 0.15 < found["test"] / 8100 < 0.25


def test_seeds_draw_other_problems_and_sizes_are_prefixes():
    assert additions(size=50, seed=1) == additions(size=50, seed=1)
    assert additions(size=50, seed=1) != additions(size=50, seed=2)
    assert additions(size=50, seed=1) == additions(size=200, seed=1)[:50]


@settings(max_examples=15, deadline=None)
@given(
    operands=st.integers(2, 5),
    largest=st.integers(10, 40),
    target=st.integers(30, 200),
    seed=st.integers(0, 1000),
    split=st.sampled_from(["train", "test"]),
)
def test_every_countdown_solution_passes_its_verifier(operands, largest, target, seed, split):
    rows = countdowns(num_operands=operands, max_number=largest, max_target=target, size=20, seed=seed, split=split)
    for row in rows:
        assert verify_countdown(row["solution"], row["target"], row["numbers"]).value == 1.0
        assert len(row["numbers"]) == operands
        assert 1 <= row["target"] <= target
        assert max(row["numbers"]) <= largest
        assert set(row["prompt"] + row["solution"]) <= set(countdown.CHARACTERS)


def test_countdown_train_and_test_are_disjoint():
    def keys(split, seed):
        rows = countdowns(size=400, split=split, seed=seed)
        return {(tuple(sorted(row["numbers"])), row["target"]) for row in rows}

    train, test = keys("train", 1), keys("test", 2)
    assert len(train) == len(test) == 400
    assert train & test == set()


def test_countdown_steps_are_shown():
    for row in countdowns(size=30, max_number=9):
        for step in row["solution"].split(" ")[0].split(","):
            left, value = step.split("=")
            assert eval(left) == int(value)
