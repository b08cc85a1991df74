"""Soft punishment of completions that come close to the token limit."""

from __future__ import annotations


def overlong(
    num_tokens: int, max_completion_tokens: int, buffer_tokens: int | None = None, penalty: float = 1.0
) -> float:
    """0 up to the buffer, then falling linearly to -penalty at the limit; a term to be added to correctness.

    With L = `max_completion_tokens` (filled in from the rollout) and C = `buffer_tokens`: 0 for num_tokens <= L - C,
    (L - C - num_tokens) / C up to L, and -1 beyond; times `penalty`. The default buffer is a fifth of the limit, the
    paper's ratio (4096 of 20480), at least one token.

    Raises ValueError for a buffer outside 1..L.

    Source: DAPO (2503.14476), equation 13.
    """
    buffer = max(1, max_completion_tokens // 5) if buffer_tokens is None else buffer_tokens
    if not 1 <= buffer <= max_completion_tokens:
        raise ValueError(f"buffer_tokens={buffer}: must be between 1 and max_completion_tokens={max_completion_tokens}")
    excess = num_tokens - (max_completion_tokens - buffer)
    return -penalty * min(max(excess / buffer, 0.0), 1.0) + 0.0  # + 0.0 turns -0.0 into 0.0
