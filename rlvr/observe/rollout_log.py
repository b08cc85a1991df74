"""Every sample of every step, in one readable file per step."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlvr.observe.files import to_json, write_atomically
from rlvr.records import Abstain, Failure, Group, Outcome, Rollout, Segment, Share, Span, SpanUnit, Steps, Turn

ROLLOUTS_DIRECTORY = "rollouts"


def write_rollouts(
    run_dir: Path, step: int, groups: Iterable[Group], stage: str, kind: str = "step", logprobs: bool = False
) -> Path:
    """Writes `rollouts/<kind>-NNNNNN.jsonl`, one line per rollout, dropped ones too, and returns its path.

    The file appears whole or not at all, and replaces what an interrupted attempt at the same step had left.
    `kind`: "step" for training, anything else ("eval") for other samples. `logprobs` adds the engine's logprobs,
    which about doubles the size.
    """
    path = Path(run_dir) / ROLLOUTS_DIRECTORY / f"{kind}-{step:06d}.jsonl"
    rows = (_row(rollout, step, stage, logprobs) for group in groups for rollout in group.rollouts)
    write_atomically(path, map(to_json, rows))
    return path


def read_rollouts(path: Path) -> list[dict[str, Any]]:
    """The rows of one file, in the order written: groups together, members in order."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _row(rollout: Rollout, step: int, stage: str, logprobs: bool) -> dict[str, Any]:
    """One rollout: identity, what was asked and said, what it was worth and why, then the token-level facts."""
    prompt = rollout.prompt
    return {
        "step": step,
        "stage": stage,
        "prompt_id": prompt.id,
        "member": rollout.member,
        "seed": rollout.seed,
        "domain": prompt.domain,
        "prompt": prompt.text,
        "completion": rollout.text,
        "turns": [_turn(turn) for turn in rollout.turns],
        "answer": prompt.answer,
        "columns": dict(prompt.columns),
        "reward": rollout.reward,
        "outcomes": {name: _outcome(outcome) for name, outcome in rollout.outcomes.items()},
        "shares": [_share(share) for share in rollout.shares],
        "references": dict(rollout.references),
        "dropped": rollout.dropped,
        "guided": rollout.guided,
        "open": rollout.open,
        "trained_tokens": rollout.trained_tokens,
        "finish_reason": rollout.segments[-1].finish_reason,
        "num_completion_tokens": rollout.num_completion_tokens,
        "sampling": {name: getattr(rollout.sampling, name) for name in rollout.sampling.__slots__},
        "segments": [_segment(segment, logprobs) for segment in rollout.segments],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    """{"score", "info"?}, {"steps", "spans", "unit"?, "info"?}, {"abstain": reason} or {"failure": kind, "message"}."""
    if isinstance(outcome, Failure):
        return {"failure": outcome.kind, "message": outcome.message}
    if isinstance(outcome, Abstain):
        return {"abstain": outcome.reason}
    info = {"info": dict(outcome.info)} if outcome.info else {}
    if isinstance(outcome, Steps):
        return {"steps": list(outcome.values)} | _spans(outcome.spans, outcome.unit) | info
    return {"score": outcome.value} | info


def _share(share: Share) -> dict[str, Any]:
    """{"term", "values", "spans"?, "unit"?}: what a term gave to the reward."""
    return {"term": share.term, "values": list(share.values)} | _spans(share.spans, share.unit)


def _spans(spans: Sequence[Span] | None, unit: SpanUnit) -> dict[str, Any]:
    """Half-open spans, in characters of the completion unless "unit" says otherwise."""
    if spans is None:
        return {}
    return {"spans": [list(span) for span in spans]} | ({} if unit == "character" else {"unit": unit})


def _turn(turn: Turn) -> dict[str, Any]:
    """What was done, what came back, what it scored; and where its tokens stand in which segment."""
    return {
        "text": turn.text,
        "observation": turn.observation,
        "scores": dict(turn.scores),
        "segment": turn.segment,
        "tokens": [turn.start, turn.end],
    }


def _segment(segment: Segment, logprobs: bool) -> dict[str, Any]:
    """Masks and versions as runs [[value, length], ...]: they hardly ever change within a segment."""
    row: dict[str, Any] = {
        "prompt_ids": [int(token) for token in segment.prompt_ids],
        "completion_ids": [int(token) for token in segment.completion_ids],
        "loss_mask": _runs([int(masked) for masked in segment.loss_mask]),
        "policy_versions": _runs([int(version) for version in segment.policy_versions]),
        "finish_reason": segment.finish_reason,
    }
    if logprobs:
        row["behavior_logprobs"] = [float(value) for value in segment.behavior_logprobs]
    return row


def _runs(values: Sequence[int]) -> list[list[int]]:
    return [[value, sum(1 for _ in run)] for value, run in itertools.groupby(values)]
