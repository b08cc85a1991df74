"""Every sample on disk: what is written, that it reads back, that nothing is ever half there (R23)."""

import json

import numpy as np
import pytest
import samples

from rlvr.observe.rollout_log import read_rollouts, write_rollouts
from rlvr.records import Group, Prompt, Score


def test_every_rollout_is_written_with_its_facts(tmp_path):
    path = write_rollouts(tmp_path, 12, samples.groups(), "rl")
    assert path == tmp_path / "rollouts" / "step-000012.jsonl"
    rows = read_rollouts(path)
    assert [(row["prompt_id"], row["member"]) for row in rows] == [
        ("p1", 0), ("p1", 1), ("p1", 2), ("p1", 3), ("p2", 0), ("p2", 1), ("p3", 0), ("p3", 1)
    ]  # fmt: skip
    first, second, failed = rows[:3]
    assert (first["step"], first["stage"], first["seed"], first["reward"]) == (12, "rl", 100, 1.0)
    assert (first["prompt"], first["completion"], first["answer"]) == ("1+1=", "text 0", "2")
    assert first["columns"] == {"level": 3}
    assert first["outcomes"] == {"math": {"score": 1.0, "info": {"parsed": "2"}}, "style": {"score": 0.5}}
    assert first["sampling"]["max_completion_tokens"] == 32
    # A broken verifier is recorded as one, never as a zero (R2).
    assert failed["outcomes"] == {
        "math": {"failure": "timeout", "message": "10 s"},
        "style": {"abstain": "no opinion"},
    }
    assert (failed["reward"], failed["dropped"], failed["finish_reason"]) == (None, "failed", "stop")
    assert rows[3]["finish_reason"] == "length"
    (segment,) = second["segments"]
    assert segment["prompt_ids"] == [5, 6]
    assert segment["completion_ids"] == list(range(25))
    assert segment["loss_mask"] == [[0, 5], [1, 20]]  # five observed tokens, then twenty sampled ones
    assert segment["policy_versions"] == [[3, 25]]
    assert "behavior_logprobs" not in segment


def test_awkward_text_and_values(tmp_path):
    prompt = Prompt(
        "p", tuple(np.array([1, 2])), "line\u2028separator\nnewline", "\u221e", "d", {"score": np.float32(0.5)}
    )
    info = {"ratio": float("nan"), ("odd", "key"): {1, 2}, "where": tmp_path, "lone": "\udc80"}
    rollout = samples.rollout(prompt, 0, 2, 1.0, outcomes={"math": Score(1.0, info)})
    (row,) = read_rollouts(write_rollouts(tmp_path, 0, [Group(prompt, [rollout])], "rl", kind="eval", logprobs=True))
    assert row["prompt"] == prompt.text
    assert row["columns"] == {"score": 0.5}
    logged = row["outcomes"]["math"]["info"]
    assert logged["ratio"] == "nan"
    assert (logged["where"], logged["lone"]) == (str(tmp_path), "\udc80")
    assert row["segments"][0]["prompt_ids"] == [1, 2]
    assert row["segments"][0]["behavior_logprobs"] == [-0.5, -0.5]
    assert [p.name for p in (tmp_path / "rollouts").iterdir()] == ["eval-000000.jsonl"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = write_rollouts(tmp_path, 1, samples.groups(), "rl")
    before = path.read_bytes()

    def broken():
        yield samples.groups()[0]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_rollouts(tmp_path, 1, broken(), "rl")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    # A repeated step (after a resume) replaces the file.
    write_rollouts(tmp_path, 1, samples.groups()[:1], "rl")
    assert len(read_rollouts(path)) == 4


def test_lines_are_strict_json(tmp_path):
    path = write_rollouts(tmp_path, 2, samples.groups(), "rl")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert all(json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines())
