"""Mathematical equality of the final answer with the gold one."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import FiniteSet, Tuple

from rewards.extract import after_thinking, boxes, last_tag

# Math-Verify warns that its SIGALRM timeouts are off. They are, on purpose: SIGALRM exists in main threads only and
# cannot interrupt C code; the process that runs this function is killed from outside instead.
logging.getLogger("math_verify").setLevel(logging.CRITICAL)

# A box outranks everything else in the text; without one, LaTeX in $...$ and then plain expressions are read.
ANYWHERE = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

MAX_CHARACTERS = 20_000  # an answer that is not in the tail of a text is not a final answer
# Powers that fill the memory when SymPy evaluates them: exponents of 5 or more digits, towers, nested factorials.
EXPLOSIVE = re.compile(r"(?:\^|\*\*)[\s{(]*\d{5,}|(?:\^|\*\*)[\s{(]*\d+\s*(?:\^|\*\*)|\d\s*!\s*\)*\s*!|\d{5,}\s*!")
INTEGER = re.compile(r"-?[0-9]{1,18}")
WORDS = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}")
COMMAND = re.compile(r"\\(?:text|mathrm|operatorname)\s*\{[^}]*\}|\\[A-Za-z]+")


def math(completion: str, answer: str, boxed_only: bool = False) -> float:
    r"""1.0 if the completion's final answer equals the gold one as mathematics, else 0.0.

    The answer is looked for behind the last `</think>`, within the last `<answer>` tag if there is one: the last
    `\boxed{}`, and without any box LaTeX in $...$, then a plain expression, the last match first. `boxed_only` accepts
    boxes alone. A gold answer that is a set or tuple may be spread over boxes ("\boxed{1} and \boxed{2}").

    Raises ValueError for a gold answer that is empty or no mathematics: paying for it would pay for anything (and
    scoring 0 would blame the model for the data).

    Source: Math-Verify, https://github.com/huggingface/Math-Verify (gold is parsed first and given first to `verify`,
    which is not symmetric); the rule reward of DeepSeek-R1 (2501.12948, section 2.2.2) and SimpleRL-Zoo (2503.18892).
    """
    gold = parse_gold(answer)
    text = after_thinking(completion)
    tagged = last_tag(text, "answer")
    text = (text if tagged is None else tagged)[-MAX_CHARACTERS:]
    found = boxes(text)
    if found and INTEGER.fullmatch(found[-1]) and INTEGER.fullmatch(answer.strip()):
        return float(int(found[-1]) == int(answer))  # most of all calls; what follows takes a millisecond
    texts = [rf"\boxed{{{found[-1]}}}"] if found else [] if boxed_only else [text]
    if len(found) > 1 and any(isinstance(expression, FiniteSet | Tuple) for expression in gold):
        texts.append(text)
    return float(any(_equal(gold, candidate, EXPLOSIVE.search(answer) is not None) for candidate in texts))


def _equal(gold: list[Any], text: str, explosive: bool) -> bool:
    if EXPLOSIVE.search(text) and not explosive:
        return False
    try:
        predictions = _parse(text)
        return bool(predictions) and verify(gold, predictions, timeout_seconds=None, raise_on_error=True)
    except MemoryError:
        raise  # the verifier broke: not a verdict on the answer
    except Exception:  # noqa: BLE001 - SymPy raises everything there is on malformed input, which is a wrong answer
        return False


@functools.lru_cache(maxsize=4096)
def parse_gold(answer: str) -> list[Any]:
    """The gold answer as SymPy expressions; ValueError if it is not text, is empty, or is no mathematics."""
    if not isinstance(answer, str):
        raise ValueError(f"gold answer {answer!r}: math needs a string, got {type(answer).__name__}")
    if not answer.strip():
        raise ValueError(f"gold answer {answer!r} is empty; drop the row or give it an answer")
    bare = COMMAND.sub(" ", answer)
    if WORDS.search(bare) and not any(character.isdigit() for character in bare):
        raise ValueError(f"gold answer {answer!r} is prose, not mathematics; use exact_match for this task")
    wrapped = answer if "\\boxed" in answer or "$" in answer else f"\\boxed{{{answer}}}"
    try:
        # LaTeX first, within a box: a bare "2\sqrt{3}" would otherwise be read as the plain number 2.
        gold = _parse(wrapped) or _parse(answer)
    except Exception as error:
        raise ValueError(f"gold answer {answer!r} cannot be parsed as mathematics: {error!r}") from error
    if not gold:
        raise ValueError(f"gold answer {answer!r} cannot be parsed as mathematics; use exact_match for this task")
    return gold


def warm_up() -> None:
    """Builds the regular expressions and the LaTeX parser's tables, so that the first real call is as fast as any."""
    math(r"\boxed{\frac{1}{2}}", "0.5")


def _parse(text: str) -> list[Any]:
    # No string fallback: equal strings that are no mathematics must not pay.
    return parse(text, ANYWHERE, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
