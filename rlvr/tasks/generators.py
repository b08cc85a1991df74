"""Seeded draws of distinct problems from a space whose train and test halves never meet."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable
from typing import Any, Literal

from rlvr.errors import RecipeError

Split = Literal["train", "test"]
Row = dict[str, Any]

TEST_SHARE = 5
"""One problem in five is a test problem."""

# A space is taken as exhausted after so many draws in a row that bring nothing new. The largest share of a space that
# is missed by then is about 1 in 1e4 problems; the error states how many were found, so asking for that many works.
_MAX_MISSES = 100_000


def split_of(key: Hashable) -> Split:
    """The half that a canonical problem belongs to: a hash of its content, so that it depends on no seed or size."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_SHARE == 0 else "train"


def distinct(
    draw: Callable[[random.Random], tuple[Hashable, Hashable, Callable[[], Row]] | None],
    size: int,
    split: Split,
    seed: int,
    space: str,
) -> list[Row]:
    """The first `size` distinct problems of a split.

    `draw` returns (canonical key, identity, a function that writes the row), or None for a draw without a problem. Two
    problems with one canonical key (3+5 and 5+3) always fall into the same split; two with one identity are the same.
    Raises RecipeError when the split holds fewer than `size` problems; `space` names it there.
    """
    rng = random.Random(seed)
    rows: list[Row] = []
    seen: set[Hashable] = set()
    misses = 0
    while len(rows) < size:
        drawn = draw(rng)
        if drawn is not None and drawn[1] not in seen and split_of(drawn[0]) == split:
            seen.add(drawn[1])
            rows.append(drawn[2]())
            misses = 0
            continue
        misses += 1
        if misses > _MAX_MISSES:
            raise RecipeError(
                f"size={size}: the {split} split of {space} holds {len(rows)} problems; ask for at most that"
            )
    return rows
