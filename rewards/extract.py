"""Where in a completion the answer stands, and the verdict on it.

Every extraction takes the last place that qualifies: a model that changes its mind means the last answer it gave.
"""

from __future__ import annotations

import re

from rlvr.records import Score

MAX_EXTRACTED_CHARACTERS = 500  # it is logged with every rollout
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


def verdict(right: bool, extracted: str | None) -> Score:
    """1.0 or 0.0, with the canonical answer that was compared (what majority voting counts); None where none was."""
    return Score(float(right), {"extracted": extracted[:MAX_EXTRACTED_CHARACTERS] if extracted else None})


def after_thinking(completion: str) -> str:
    """The text behind the last `</think>`; all of it if there is none. A chain of thought is not an answer."""
    return completion.rpartition("</think>")[2]


def boxes(text: str) -> list[str]:
    r"""The contents of every closed outermost `\boxed{...}`, in order, braces balanced (`\{` and `\}` do not count)."""
    found = []
    position = 0
    while match := BOX.search(text, position):
        end = _closing_brace(text, match.end())
        if end is None:
            position = match.end()  # never closed: a box may still be closed inside it
            continue
        found.append(text[match.end() : end].strip())
        position = end + 1
    return found


def last_box(text: str) -> str | None:
    r"""The content of the last closed `\boxed{...}`, or None."""
    found = boxes(text)
    return found[-1] if found else None


def last_tag(text: str, tag: str) -> str | None:
    """The stripped content of the last closed `<tag>...</tag>`, or None. Tags are case-sensitive."""
    head, closing, _ = text.rpartition(f"</{tag}>")
    _, opening, content = head.rpartition(f"<{tag}>")
    return content.strip() if closing and opening else None


def final_answer(completion: str) -> str | None:
    r"""The declared answer behind the thinking: the last box, else the last `<answer>` tag, else None.

    A box inside the answer tag is the answer; without a box the tag's whole content is.
    """
    text = after_thinking(completion)
    tagged = last_tag(text, "answer")
    if tagged is not None:
        boxed = last_box(tagged)
        return tagged if boxed is None else boxed
    return last_box(text)


def last_line(text: str) -> str:
    """The last line that is not blank, stripped; '' if there is none."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _closing_brace(text: str, start: int) -> int | None:
    """The index of the brace that closes the one before `start`, or None."""
    depth = 1
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2  # an escaped brace is text
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None
