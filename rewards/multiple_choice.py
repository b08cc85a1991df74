"""Equality of the chosen letter with the gold one."""

from __future__ import annotations

import re

from rewards.extract import after_thinking, final_answer, verdict
from rlvr.records import Score

CHOICES = "ABCDEFGHIJ"
# "answer is (C)", "Answer: C." and so on: upper case, or in brackets ("the answer is a prime" states nothing).
STATED = re.compile(
    r"(?i:answer)\s*(?i:is|:|=)?\s*:?[\s*_]*(?i:option|choice)?[\s*_]*"
    r"(?P<first>[A-Z]|[(\[]\s*[A-Za-z]\s*[)\]])(?![A-Za-z'])(?P<second>\s*(?:or|and|/|,)\s*[(\[]?[A-Z](?![A-Za-z']))?"
)
LETTER = re.compile(r"(?<![A-Za-z'])([A-Za-z])(?![A-Za-z'])")
OPTION = re.compile(r"^[\s(\[*]*([A-Za-z])\s*[)\].:*]+(?:\s|$)")
FILLER = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\b|\b(?:option|choice|answer|is|the)\b:?", re.IGNORECASE)


def multiple_choice(completion: str, answer: str, choices: str = CHOICES) -> Score:
    r"""1.0 if the one letter that was chosen is the gold one, else 0.0.

    The choice is read from the last `\boxed{}` or `<answer>`, else from the last "answer is X" behind the thinking,
    else from a text that is a letter and nothing more. Several different letters in the declared answer
    ("\boxed{B or C}") choose nothing; an option quoted with its text ("C) Paris") chooses its letter.

    Raises ValueError for a gold answer that is not one of `choices`.

    Source: AlphaMed (2505.17952), whose whole reward is this; the extraction rules are ours.
    """
    gold = parse_gold(answer, choices)
    declared = final_answer(completion)
    if declared is None:
        text = after_thinking(completion)
        stated = list(STATED.finditer(text))
        declared = stated[-1].group() if stated else text
        if stated and not stated[-1]["second"]:
            declared = stated[-1]["first"]
    chosen = chosen_letter(declared, set(choices.upper()))
    return verdict(chosen == gold, chosen)


def check_gold(answer: str | None, choices: str = CHOICES) -> None:
    """ValueError for a gold answer that is not one of `choices`."""
    parse_gold(answer, choices)


def parse_gold(answer: str | None, choices: str) -> str:
    """The gold letter, upper case; ValueError if it is not one of `choices`."""
    gold = answer.strip().strip("().").upper() if isinstance(answer, str) else ""
    if len(gold) != 1 or gold not in choices.upper():
        raise ValueError(f"gold answer {answer!r} is not one letter of choices={choices!r}")
    return gold


def chosen_letter(declared: str, letters: set[str]) -> str | None:
    """The single letter that a declared answer chooses, upper case; None if there is none or more than one."""
    text = FILLER.sub(" ", declared)
    if option := OPTION.match(text):
        others = {letter for letter in LETTER.findall(text[option.end() :]) if letter in letters}
        # "C) Paris" may go on with words; "B) or C)" names a second option.
        return option.group(1).upper() if not others - {option.group(1).upper(), "A", "I"} else None
    bare = text.strip(" \t\r\n{}()[].,:;*_$").upper()
    return bare if len(bare) == 1 and bare in letters else None
