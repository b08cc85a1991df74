"""Whether a completion has the shape that was asked for."""

from __future__ import annotations

import re
from typing import Literal

from rewards.extract import after_thinking, boxes

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
THINK_ANSWER = re.compile(r"\s*(?:<think>)?(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)


def format(
    completion: str, style: Literal["think_answer", "boxed"] = "think_answer", prompt_opens_think: bool = False
) -> float:
    r"""1.0 if the completion has the asked-for shape, else 0.0. The gold answer plays no part.

    `think_answer`: `<think>...</think><answer>...</answer>` is the whole completion (white space aside), each of the
    four tags occurs exactly once, in this order, and neither part is blank. With `prompt_opens_think` the prompt ends
    in `<think>`, so the completion must not repeat it. `boxed`: exactly one distinct closed, non-blank `\boxed{}`
    stands behind the thinking.

    Source: DeepSeek-R1 (2501.12948, section 2.2.2). Open copies match `<think>.*?</think>\s*<answer>.*?</answer>`
    in full, which lets tags be nested and repeated inside; counting them does not.
    """
    if style == "boxed":
        distinct = set(boxes(after_thinking(completion)))
        return float(len(distinct) == 1 and "" not in distinct)
    if style != "think_answer":
        raise ValueError(f"style={style!r}: choose think_answer or boxed")
    expected = [0 if tag == "<think>" and prompt_opens_think else 1 for tag in TAGS]
    if [completion.count(tag) for tag in TAGS] != expected:
        return 0.0
    if not prompt_opens_think and not completion.lstrip().startswith("<think>"):
        return 0.0
    match = THINK_ANSWER.fullmatch(completion)
    return float(match is not None and bool(match["think"].strip()) and bool(match["answer"].strip()))
