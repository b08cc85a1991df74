"""Which sampled tokens stand in a span of a completion's characters, exactly.

Tokens are decoded one after the other as the engine decodes them together, special tokens skipped, so that the
characters of each are known: also where a character is spread over several tokens (bytes), or a tokenizer writes a
space only between words. Turns are decoded on their own, as their texts were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlvr.errors import RlvrError
from rlvr.records import Rollout, Share, Span
from rlvr.scoring.steps import turn_spans

REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are no character (yet)


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """For each sampled token, in order over all segments, its characters in `Rollout.text`; empty for special ones."""

    starts: Tensor
    ends: Tensor

    def in_characters(self, span: Span) -> tuple[Tensor, int]:
        """The tokens with a character in the span, else the nearest one; and at which of them the span is complete.

        Tokens that write nothing (an end-of-turn token) belong to what was said before them when it comes to where a
        span is complete.
        """
        start, end = span
        found = ((self.starts < end) & (self.ends > start)).nonzero()[:, 0]
        if not len(found):
            distance = torch.maximum(start - self.ends, self.starts - end).clamp(min=0)
            found = distance.argmin()[None]
        last = int(found[-1])
        while last + 1 < len(self.starts) and self.starts[last + 1] == self.ends[last + 1] == self.ends[last]:
            last += 1
        return found, last


def token_spans(rollout: Rollout, tokenizer: Any) -> TokenSpans:
    """Where each sampled token of a rollout stands. RlvrError if its text is not what its tokens decode to."""
    spans: list[Span] = []
    for ids, text, offset in _units(rollout):
        spans += [(offset + start, offset + end) for start, end in _aligned(character_spans(ids, tokenizer), text)]
    flat = torch.tensor(spans, dtype=torch.long).reshape(-1, 2)
    return TokenSpans(flat[:, 0], flat[:, 1])


def tokens_of(share: Share, num_tokens: int, spans: TokenSpans | None) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """For each step of a share its tokens, and the one at which it is complete. `spans` where it counts characters."""
    assert share.spans is not None, share
    if share.unit == "character":
        assert spans is not None or not share.spans, share
        places = [spans.in_characters(span) for span in share.spans] if spans is not None else []
    else:
        places = []
        for start, end in share.spans:
            start, end = min(start, num_tokens - 1), min(end, num_tokens)  # an empty span: the token it stands before
            places.append((torch.arange(start, max(end, start + 1)), max(end, start + 1) - 1))
    return tuple(tokens for tokens, _ in places), tuple(last for _, last in places)


def character_spans(ids: Sequence[int], tokenizer: Any) -> tuple[list[Span], str]:
    """The characters of each token in the text that the tokens decode to, with that text; special tokens are empty.

    Where several tokens share a character, each of them has it.
    """
    from tokenizers.decoders import DecodeStream

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise RlvrError(
            f"objective.credit: {type(tokenizer).__name__} cannot decode token by token; steps in characters need a "
            "fast tokenizer (tokenizer.json) beside the model, or score steps with unit='token'"
        )
    special = set(tokenizer.all_special_ids)
    stream = DecodeStream(skip_special_tokens=True)
    spans: list[Span] = []
    pieces: list[str] = []
    waiting, position = 0, 0  # index of the first token that has not been decoded; characters so far
    for index, token in enumerate(ids):
        if token in special and waiting == index:  # within bytes of a character it must pass through the stream
            spans.append((position, position))
            waiting = index + 1
            continue
        piece = stream.step(backend, token)
        if piece is not None:
            spans += _within(ids[waiting : index + 1], piece, position, backend)
            pieces.append(piece)
            position, waiting = position + len(piece), index + 1
    if waiting < len(ids):  # bytes that never became a character
        text = backend.decode(list(ids), skip_special_tokens=True)
        spans += _within(ids[waiting:], text[position:], position, backend)
        pieces.append(text[position:])
    return spans, "".join(pieces)


def _within(ids: Sequence[int], piece: str, position: int, backend: Any) -> Iterator[Span]:
    """Spans of tokens that became text together: up to where each decodes to the same, and the character it breaks."""
    done = 0
    for count in range(1, len(ids)):
        prefix = backend.decode(list(ids[:count]), skip_special_tokens=True)
        # A decoder may drop the space before a first word, which the piece has.
        text = prefix if not piece.startswith(" ") or prefix.startswith(" ") or not prefix else " " + prefix
        known = done
        while known < min(len(text), len(piece)) and text[known] == piece[known] and text[known] != REPLACEMENT:
            known += 1
        broken = int(len(text) > known and known < len(piece))
        yield position + done, position + known + broken
        done = known
    yield position + done, position + len(piece)


def _units(rollout: Rollout) -> Iterator[tuple[list[int], str, int]]:
    """(sampled token ids, their text, where it stands in the rollout's text): by turn, or for all that was sampled."""
    if not rollout.turns:
        sampled = [
            int(token)
            for segment in rollout.segments
            for token, mask in zip(segment.completion_ids, segment.loss_mask, strict=True)
            if mask
        ]
        yield sampled, rollout.text, 0
        return
    places = turn_spans([turn.text for turn in rollout.turns])
    for turn, (start, _) in zip(rollout.turns, places, strict=True):
        ids = rollout.segments[turn.segment].completion_ids[turn.start : turn.end]
        yield [int(token) for token in ids], turn.text, start


def _aligned(decoded: tuple[list[Span], str], text: str) -> list[Span]:
    """The spans in `text`, which may lack spaces that a tokenizer's clean-up took out, and an end that was cut off."""
    spans, whole = decoded
    if whole.startswith(text):
        return [(min(start, len(text)), min(end, len(text))) for start, end in spans]
    where, position = [], 0  # for each character of what was decoded, how much of the text stands before it
    for character in whole:
        where.append(position)
        if position < len(text) and text[position] == character:
            position += 1
        elif not character.isspace():
            break
    if position < len(text):
        raise RlvrError(
            f"objective.credit: the text {text[position : position + 40]!r} of a completion is not what its tokens "
            f"decode to ({whole[len(where) - 1 : len(where) + 39]!r}), so the tokens of a step are unknown; set "
            "clean_up_tokenization_spaces to false in the model's tokenizer_config.json, or use placement uniform"
        )
    where += [position] * (len(whole) + 1 - len(where))
    return [(where[start], where[end]) for start, end in spans]
