"""R13: checkpoints are whole or absent."""

from pathlib import Path

import pytest

from rlvr.controller.checkpoint import (
    RunState,
    complete_checkpoints,
    damaged_files,
    latest_valid,
    save_checkpoint,
)
from rlvr.errors import RlvrError


def state(step: int) -> RunState:
    return RunState(step=step, stage_index=1, stage_step=step, drawn=16 * step, policy_version=step + 1)


def write_weights(directory: Path) -> None:
    (directory / "rank0").mkdir(parents=True)
    (directory / "rank0" / "weights.bin").write_bytes(b"w" * 1000)


def test_a_saved_state_is_read_back(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, state(7), write_weights, keep=2)
    assert saved.name == "step-000007"
    assert latest_valid(tmp_path) == (saved, state(7))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, state(step), write_weights, keep=2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000002", "step-000010"]


def test_an_interrupted_save_leaves_the_previous_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), write_weights, keep=1)

    def killed(directory: Path) -> None:
        write_weights(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, state(2), killed, keep=1)
    found = latest_valid(tmp_path)
    assert found is not None
    assert found[1] == state(1)
    # The remains do not stand in the way of the next save.
    save_checkpoint(tmp_path, state(2), write_weights, keep=1)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000002"]


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, state(1), write_weights, keep=3)
    newest = save_checkpoint(tmp_path, state(2), write_weights, keep=3)
    weights = newest / "learner" / "rank0" / "weights.bin"
    if damage == "truncate":
        weights.write_bytes(b"w" * 999)
    elif damage == "remove":
        weights.unlink()
    else:
        (newest / "manifest.json").write_text("{")
    assert damaged_files(newest)
    found = latest_valid(tmp_path)
    assert found is not None
    assert found[1] == state(1)


def test_a_full_disk_is_an_error_that_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), write_weights, keep=1)

    def no_space(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RlvrError, match=r"step-000002: No space left on device; earlier checkpoints are untouched"):
        save_checkpoint(tmp_path, state(2), no_space, keep=1)
    assert latest_valid(tmp_path) is not None
