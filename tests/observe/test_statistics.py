"""Evaluation statistics against hand-worked numbers and brute force over all subsets."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.observe.statistics import avg_at_k, bootstrap_interval, maj_at_k, pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (10, 3, 5, 11 / 12),  # 1 - C(7, 5) / C(10, 5) = 1 - 21 / 252
        (4, 2, 2, 5 / 6),  # 1 - C(2, 2) / C(4, 2)
        (10, 0, 5, 0.0),
        (10, 6, 5, 1.0),  # only 4 wrong samples: 5 cannot all be wrong
        (7, 2, 1, 2 / 7),
        (5, 1, 5, 1.0),
    ],
)
def test_pass_at_k_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_is_stable_where_binomials_overflow():
    # C(20000, 1000) has 1,723 digits; exact integers give the reference.
    exact = 1 - Fraction(math.comb(19990, 1000), math.comb(20000, 1000))
    assert pass_at_k(20000, 10, 1000) == pytest.approx(float(exact), rel=1e-10)


@given(n=st.integers(1, 12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_pass_at_k_is_the_share_of_subsets(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    verdicts = [i < c for i in range(n)]
    subsets = list(itertools.combinations(verdicts, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 5, 1), (4, -1, 1), (4, 2, 0), (0, 0, 1)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match=r"num_correct=|k="):
        pass_at_k(n, c, k)


def test_avg_at_k():
    assert avg_at_k(8, 3) == 0.375


@pytest.mark.parametrize(
    ("answers", "correct", "k", "expected"),
    [
        # Pairs of A A B: AA wins surely; AB and AB are ties, won by A half the time: (1 + 1/2 + 1/2) / 3.
        (["A", "A", "B"], [True, True, False], 2, 2 / 3),
        (["A", "A", "B"], [True, True, False], 3, 1.0),
        (["A", "A", "B"], [True, True, False], 1, 2 / 3),  # maj@1 is the mean
        # None does not vote. Pairs of A B None: AB tie 1/2, A None -> A, B None -> B: (1/2 + 1 + 0) / 3.
        (["A", "B", None], [True, False, False], 2, 0.5),
        ([None, None], [False, False], 2, 0.0),
        # The right answer twice against a wrong one three times: all five drawn, it loses.
        (["A", "A", "B", "B", "B"], [True, True, False, False, False], 5, 0.0),
        # Answer A was judged right once of twice: wherever it wins, that is worth 1/2.
        (["A", "A"], [True, False], 2, 0.5),
    ],
)
def test_maj_at_k_by_hand(answers, correct, k, expected):
    assert maj_at_k(answers, correct, k) == pytest.approx(expected, abs=1e-12)


def majority_by_brute_force(answers: list[str | None], correct: list[bool], k: int) -> float:
    value = {a: np.mean([c for b, c in zip(answers, correct, strict=True) if b == a]) for a in set(answers)}
    subsets = list(itertools.combinations(answers, k))
    total = 0.0
    for subset in subsets:
        votes = Counter(answer for answer in subset if answer is not None)
        leaders = [answer for answer, count in votes.items() if count == max(votes.values())]
        total += float(np.mean([value[leader] for leader in leaders])) if leaders else 0.0
    return total / len(subsets)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_maj_at_k_is_the_expectation_over_subsets(data):
    n = data.draw(st.integers(1, 9))
    answers = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=n, max_size=n))
    correct = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    assert maj_at_k(answers, correct, k) == pytest.approx(majority_by_brute_force(answers, correct, k), abs=1e-12)


def test_maj_at_k_equals_first_seen_in_random_order():
    """The documented tie rule is the one of Counter.most_common on a shuffled list, on average."""
    answers, correct = ["a", "a", "b", "b", "c", None], [True, True, False, False, False, False]
    generator = random.Random(0)
    wins = 0
    for _ in range(20000):
        votes = Counter(answer for answer in generator.sample(answers, 4) if answer is not None)
        wins += votes.most_common(1)[0][0] == "a"
    # Standard error of 20,000 coin flips is 0.0035.
    assert maj_at_k(answers, correct, 4) == pytest.approx(wins / 20000, abs=0.012)


def test_maj_at_k_with_many_samples_is_quick_and_finite():
    answers = [str(i % 7) for i in range(256)]
    value = maj_at_k(answers, [answer == "0" for answer in answers], 64)
    assert 0.1 < value < 0.3  # 37 of 256 votes against six rivals with 36 or 37 each


def test_bootstrap_covers_the_normal_interval():
    # 400 prompts at 50%: standard error sqrt(0.25 / 400) = 0.025, so the interval is 0.5 +- 0.049.
    low, high = bootstrap_interval([0.0, 1.0] * 200, confidence=0.95, samples=4000, seed=1)
    assert low == pytest.approx(0.451, abs=0.006)
    assert high == pytest.approx(0.549, abs=0.006)


def test_bootstrap_is_seeded_and_widens_with_confidence():
    values = [i / 9 for i in range(10)]
    assert bootstrap_interval(values, 0.95, 500, seed=3) == bootstrap_interval(values, 0.95, 500, seed=3)
    assert bootstrap_interval(values, 0.95, 500, seed=3) != bootstrap_interval(values, 0.95, 500, seed=4)
    narrow, wide = bootstrap_interval(values, 0.5, 500, 3), bootstrap_interval(values, 0.99, 500, 3)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


def test_bootstrap_edges(monkeypatch):
    assert bootstrap_interval([1.0] * 5, 0.95, 200, 0) == (1.0, 1.0)
    assert all(map(math.isnan, bootstrap_interval([], 0.95, 200, 0)))
    # Cut into chunks of one resample, the draws and so the interval stay the same.
    whole = bootstrap_interval([0.0, 1.0, 1.0], 0.9, 300, 7)
    monkeypatch.setattr("rlvr.observe.statistics.BOOTSTRAP_CHUNK", 3)
    assert bootstrap_interval([0.0, 1.0, 1.0], 0.9, 300, 7) == whole
