"""The one error that reward expressions raise: what is wrong, under which column, and what to do."""

from __future__ import annotations

from rlvr.errors import RecipeError

MAX_LINE = 200


class ExpressionError(RecipeError):
    """A fault in a reward expression, between the characters `start` and `end` of `text`."""

    def __init__(self, fault: str, text: str, start: int, end: int) -> None:
        super().__init__(f"{fault}\n{caret(text, start, end)}")
        self.fault = fault
        self.text = text
        self.start = start
        self.end = end


def caret(text: str, start: int, end: int) -> str:
    """The line of `text` that holds `start`, with carets under start:end (at least one)."""
    start = min(start, len(text))
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    line = text[line_start:line_end].replace("\t", " ")
    column = start - line_start
    width = max(1, min(end, line_end) - start)
    if len(line) > MAX_LINE:
        cut = max(0, column - MAX_LINE // 2)
        line, column = line[cut : cut + MAX_LINE], column - cut
        width = max(1, min(width, len(line) - column))
    return f"    {line}\n    {' ' * column}{'^' * width}"
