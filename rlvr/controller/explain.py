"""Why a logged rollout got its reward, and each of its tokens its advantage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlvr.controller.batch import TRUNCATED, assemble, group_order, members_per_prompt
from rlvr.controller.credit import credits_of
from rlvr.controller.estimates import Estimate
from rlvr.controller.rundir import RunDir
from rlvr.controller.token_spans import token_spans
from rlvr.errors import RlvrError
from rlvr.observe.rollout_log import ROLLOUTS_DIRECTORY, read_rollouts
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import EvalStage, Recipe, RlStage, Stage
from rlvr.records import Group, Prompt, Rollout, SamplingParams, Segment, Share, Turn
from rlvr.scoring.explain import explain_row, outcome_of_row

Row = Mapping[str, Any]
MAX_TEXT = 60


@dataclass(frozen=True, slots=True)
class TokenCredit:
    """Neighbouring tokens that got the same: what they say, and per token their credit and advantage."""

    text: str
    num_tokens: int
    credit: float
    advantage: float


def explain_sample(run_dir: Path, step: int, sample: str) -> list[str]:
    """Lines of text about one rollout of a finished step; `sample` is its line (from 0) or PROMPT_ID:MEMBER.

    RlvrError where the run, the step or the sample is not there.
    """
    run, rows = RunDir(run_dir), _rows(run_dir, step)
    row = _find(rows, sample)
    recipe = load_recipe(run.recipe)
    stage, stage_step = _stage_of(recipe, row)
    size = members_per_prompt(stage.rollout)
    group = [other for other in rows if _group_of(other, size) == _group_of(row, size)]
    lines = [
        f"{run_dir}, step {step} ({stage.name} {stage_step + 1}), prompt {row['prompt_id']}, member {row['member']}",
        f"prompt      {_excerpt(row['prompt'])}",
        f"completion  {_excerpt(row['completion'])}",
        f"answer      {row['answer']!r}",
        "",
        *explain_row(row, group, stage.reward, stage_step),
    ]
    if row["reward"] is None or not isinstance(stage, RlStage):
        return lines
    return [*lines, "", *_token_lines(rows, row, recipe, stage, run)]


def _rows(run_dir: Path, step: int) -> list[dict[str, Any]]:
    path = run_dir / ROLLOUTS_DIRECTORY / f"step-{step:06d}.jsonl"
    if path.is_file():
        return read_rollouts(path)
    known = sorted(int(file.stem.partition("-")[2]) for file in (run_dir / ROLLOUTS_DIRECTORY).glob("step-*.jsonl"))
    if not known:
        raise RlvrError(f"{run_dir}: holds no {ROLLOUTS_DIRECTORY}/step-*.jsonl; give the directory of a run")
    raise RlvrError(f"{path}: no such step; {run_dir} has {len(known)} steps from {known[0]} to {known[-1]}")


def _group_of(row: Row, group_size: int) -> tuple[str, int]:
    """A prompt that was drawn twice in a step has other members the second time, and a group of its own."""
    return row["prompt_id"], row["member"] // group_size


def _find(rows: Sequence[dict[str, Any]], sample: str) -> dict[str, Any]:
    if sample.isdigit() and int(sample) < len(rows):
        return rows[int(sample)]
    for row in rows:
        if f"{row['prompt_id']}:{row['member']}" == sample:
            return row
    raise RlvrError(
        f"sample {sample!r}: the step has {len(rows)} samples; give 0 to {len(rows) - 1}, or PROMPT_ID:MEMBER as in "
        f"{rows[0]['prompt_id']}:{rows[0]['member']}"
    )


def _stage_of(recipe: Recipe, row: Row) -> tuple[Stage, int]:
    """The stage that made the row, and which of its steps it was, from 0."""
    before = 0
    for stage in recipe.stages:
        if stage.name == row["stage"]:
            return stage, row["step"] - 1 - before
        before += 0 if isinstance(stage, EvalStage) else stage.steps
    raise RlvrError(f"stage {row['stage']!r} of the sample is not in the run's recipe; was the recipe changed?")


def _token_lines(rows: Sequence[Row], row: Row, recipe: Recipe, stage: RlStage, run: RunDir) -> Iterator[str]:
    from rlvr.models.tokenizer import load_tokenizer

    directory = str(run.model) if recipe.model.init else str(recipe.model.path)
    try:
        tokenizer = load_tokenizer(directory, recipe.model)
    except (OSError, ValueError) as error:
        yield f"the credits of tokens need the tokenizer in {directory}, which cannot be loaded: {error}"[:400]
        return
    pieces = list(token_credits(rows, row, stage, tokenizer))
    if not pieces:
        yield f"no token trained: {row['dropped'] or 'nothing was sampled'}"
        return
    width = max(len(_excerpt(piece.text)) for piece in pieces)
    yield f"{'tokens':<{width}}  {'number':>6}  {'credit each':>12}  {'advantage':>10}"
    for piece in pieces:
        yield f"{_excerpt(piece.text):<{width}}  {piece.num_tokens:>6}  {piece.credit:>12.6g}  {piece.advantage:>10.4f}"
    total = sum(piece.num_tokens * piece.credit for piece in pieces)
    yield f"credits sum to {total:.6g}"
    if stage.objective.critic is not None:
        yield "advantages came from the critic, whose values no log holds"
    elif stage.objective.kl.placement == "reward" and stage.objective.kl.coefficient > 0:
        yield "advantages here are those before the KL penalty, which no log holds"


def token_credits(rows: Sequence[Row], row: Row, stage: RlStage, tokenizer: Any) -> Iterator[TokenCredit]:
    """Credits and advantages of a rollout's sampled tokens, from all rows of its step; nothing if it did not train."""
    groups = [
        Group(rollouts[0].prompt, rollouts)
        for _, members in itertools.groupby(rows, key=lambda other: _group_of(other, members_per_prompt(stage.rollout)))
        for rollouts in [[rollout_of_row(member) for member in members]]
    ]
    kept = [rollout for group in sorted((g for g in groups if g.kept), key=group_order) for rollout in group.kept]
    sequences = assemble(
        groups, stage.objective, tokenizer=tokenizer, estimate=_unknown if stage.objective.critic else None
    )
    place = (row["prompt_id"], row["member"])
    index = next((i for i, rollout in enumerate(kept) if (rollout.prompt.id, rollout.member) == place), None)
    if index is None or not kept[index].num_sampled_tokens:
        return
    own = [sequence for sequence in sequences if sequence.rollout == index]
    advantages = [float(a) for sequence in own for a in sequence.advantage[sequence.loss_mask]]
    if not advantages:
        return
    rollout = kept[index]
    credits = credits_of(rollout, stage.objective.credit, tokenizer).tolist()
    spans = token_spans(rollout, tokenizer)
    places = zip(spans.starts.tolist(), spans.ends.tolist(), credits, advantages, strict=True)
    for (credit, advantage), tokens in itertools.groupby(places, key=lambda token: token[2:]):
        run = list(tokens)
        yield TokenCredit(rollout.text[run[0][0] : run[-1][1]], len(run), credit, advantage)


def _unknown(rollouts: Sequence[Rollout]) -> list[Estimate]:
    return [Estimate(np.full(rollout.num_sampled_tokens, np.nan, dtype=np.float32)) for rollout in rollouts]


def rollout_of_row(row: Row) -> Rollout:
    """The rollout that a row was written from, without logprobs. A truncated one counts in its group's baseline."""
    prompt = Prompt(
        row["prompt_id"],
        tuple(row["segments"][0]["prompt_ids"]),
        row["prompt"],
        row["answer"],
        row["domain"],
        row.get("columns", {}),
    )
    return Rollout(
        prompt=prompt,
        member=row["member"],
        seed=row["seed"],
        segments=[_segment(segment) for segment in row["segments"]],
        text=row["completion"],
        sampling=SamplingParams(**row["sampling"]),
        turns=[_turn(turn) for turn in row.get("turns", [])],
        outcomes={name: outcome_of_row(outcome) for name, outcome in row["outcomes"].items()},
        reward=row["reward"],
        shares=[_share(share) for share in row.get("shares", [])],
        dropped="" if row["dropped"] == TRUNCATED else row["dropped"],
        open=row.get("open", False),
        trained_tokens=row.get("trained_tokens", 0),
    )


def _segment(logged: Row) -> Segment:
    completion_ids = logged["completion_ids"]
    return Segment(
        prompt_ids=logged["prompt_ids"],
        completion_ids=completion_ids,
        loss_mask=[bool(value) for value, count in logged["loss_mask"] for _ in range(count)],
        behavior_logprobs=[0.0] * len(completion_ids),
        policy_versions=[value for value, count in logged["policy_versions"] for _ in range(count)],
        finish_reason=logged["finish_reason"],
    )


def _turn(logged: Row) -> Turn:
    start, end = logged["tokens"]
    return Turn(logged["segment"], start, end, logged["text"], logged["observation"], logged["scores"])


def _share(logged: Row) -> Share:
    spans = logged.get("spans")
    return Share(
        logged["term"],
        tuple(logged["values"]),
        None if spans is None else tuple((start, end) for start, end in spans),
        logged.get("unit", "character"),
    )


def _excerpt(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 4] + "...'"
