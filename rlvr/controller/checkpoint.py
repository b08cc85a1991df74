"""Run checkpoints that are whole or absent: temporary name, hashed manifest, rename, only then rotate."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlvr.errors import RlvrError, WorkerDied

MANIFEST = "manifest.json"
STATE = "controller.json"
MODELS = "models"  # training state of the models beside the policy
CRITIC = "critic"  # and that of the critic
REPLAY = "replay.jsonl"  # completions of earlier steps
WINDOWS = "windows.jsonl"  # completions that the next step goes on with


@dataclass(frozen=True, slots=True)
class RunState:
    """What the controller must know to go on; weights, optimizer and schedule are in the learner's files beside it.

    `step` counts over all stages, `stage_step` within the stage. `drawn` is the curriculum's position,
    `rewards` the state of `rlvr.scoring.total.RewardTotal`, `kl` that of `rlvr.controller.kl.KlControl`,
    `auxiliary` that of `rlvr.controller.objective_state.ObjectiveState`; checkpoints
    written before there was one hold none. `evaluation_due`: the one after this step has not been made yet.
    """

    step: int
    stage_index: int
    stage_step: int
    drawn: int
    policy_version: int
    rewards: dict[str, Any] = field(default_factory=dict)
    kl: dict[str, Any] = field(default_factory=dict)
    auxiliary: dict[str, float] = field(default_factory=dict)
    evaluation_due: bool = False


def save_checkpoint(
    root: Path,
    state: RunState,
    save_learner: Callable[[Path], None],
    keep: int,
    save_models: Callable[[Path], None] = lambda directory: None,
) -> Path:
    """Writes checkpoints/step-NNNNNN; an interrupted save leaves the previous ones as they were."""
    final = checkpoint_path(root, state)
    partial = root / f".partial-step-{state.step:06d}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        save_learner(partial / "learner")
        save_models(partial / MODELS)
        (partial / STATE).write_text(json.dumps(asdict(state)))
        hashes = {str(path.relative_to(partial)): _hash(path) for path in _files(partial)}
        (partial / MANIFEST).write_text(json.dumps({"files": hashes}, indent=1))
        for path in [*_files(partial), partial]:
            _sync(path)
    except WorkerDied:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RlvrError(f"checkpoint {final}: {error.strerror or error}; earlier checkpoints are untouched") from error
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    _sync(root)
    for old in complete_checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoint_path(root: Path, state: RunState) -> Path:
    """Where the checkpoint of a state is, or would be."""
    return root / f"step-{state.step:06d}"


def is_saved(path: Path, state: RunState) -> bool:
    """Whether a finished checkpoint there is of this very moment."""
    if not (path / MANIFEST).is_file():
        return False
    saved = read_state(path)
    return (saved.stage_index, saved.stage_step, saved.evaluation_due) == (
        state.stage_index,
        state.stage_step,
        state.evaluation_due,
    )


def complete_checkpoints(root: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in root.glob("step-*") if (path / MANIFEST).is_file())


def latest_valid(root: Path) -> tuple[Path, RunState] | None:
    """The newest checkpoint whose files all match its manifest."""
    for path in reversed(complete_checkpoints(root)):
        if not damaged_files(path):
            return path, read_state(path)
    return None


def read_state(checkpoint: Path) -> RunState:
    """The controller's part of a checkpoint."""
    return RunState(**json.loads((checkpoint / STATE).read_text()))


def damaged_files(checkpoint: Path) -> list[str]:
    """Files of a checkpoint that are missing or differ from its manifest."""
    try:
        hashes = json.loads((checkpoint / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return [MANIFEST]
    return [
        name
        for name, expected in hashes.items()
        if not (checkpoint / name).is_file() or _hash(checkpoint / name) != expected
    ]


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
