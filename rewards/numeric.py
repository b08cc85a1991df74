"""Closeness of the last number in a completion to the gold number."""

from __future__ import annotations

import math
import re

from rewards.extract import after_thinking, final_answer, verdict
from rlvr.records import Score

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def numeric(completion: str, answer: str, relative_tolerance: float = 0.0, absolute_tolerance: float = 1e-9) -> Score:
    r"""1.0 if the final number is within the tolerances of the gold number, else 0.0.

    The number is the last one in `\boxed{}` or `<answer>`, and without either the last one behind the thinking.
    Commas between groups of three digits are dropped; a minus sign directly behind a digit is a subtraction.

    Raises ValueError for a gold answer that is not one number.

    Source: the GSM8K verifier of Tulu 3 (2411.15124; open-instruct `GSM8KVerifier`), which compares strings; here
    values are compared, so that 7.50 equals 7.5.
    """
    gold = parse_gold(answer)
    declared = final_answer(completion)
    found = numbers(after_thinking(completion) if declared is None else declared)
    if not found or not math.isfinite(found[-1]):
        return verdict(False, None)
    right = math.isclose(found[-1], gold, rel_tol=relative_tolerance, abs_tol=absolute_tolerance)
    return verdict(right, f"{found[-1] + 0.0:.15g}")  # + 0.0 turns -0.0 into 0.0


def check_gold(answer: str | None) -> None:
    """ValueError for a gold answer that is not one finite number."""
    parse_gold(answer)


def parse_gold(answer: str | None) -> float:
    """The gold number; ValueError if the answer is not one finite number."""
    golds = numbers(answer) if isinstance(answer, str) else []
    if len(golds) != 1 or not math.isfinite(golds[0]):
        raise ValueError(f"gold answer {answer!r} is not one number; use math or exact_match for this task")
    return golds[0]


def numbers(text: str) -> list[float]:
    """Every number in the text, in order."""
    text = GROUPED.sub("", text)
    found = []
    for match in NUMBER.finditer(text):
        token = match.group()
        if token[0] in "+-" and match.start() > 0 and text[match.start() - 1].isdigit():
            token = token[1:]  # "12-5": an operator, not a sign
        found.append(float(token))
    return found
