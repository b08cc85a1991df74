"""metrics.jsonl and TensorBoard events: exact sums and counts, kills, resuming."""

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlvr.observe.run_log import RunLog, read_metrics


def test_lines_keep_sums_and_counts(tmp_path):  # R23
    with RunLog(tmp_path, tensorboard=False) as log:
        log.log(1, "sft", 1, {"loss": (6.0, 4.0)})
        log.log(2, "rl", 1, {"reward": (3.0, 8.0), "ratio_max": (1.5, 1.0)}, {"note": "x"})
    first, second = read_metrics(tmp_path)
    assert (first["step"], first["stage"], first["stage_step"]) == (1, "sft", 1)
    assert first["metrics"] == {"loss": (6.0, 4.0)}
    assert second["metrics"] == {"reward": (3.0, 8.0), "ratio_max": (1.5, 1.0)}
    assert second["extra"] == {"note": "x"}
    assert second["time"] >= first["time"] > 1.6e9
    assert not (tmp_path / "tensorboard").exists()


def test_every_line_is_on_disk_at_once_and_strict(tmp_path):  # R18: a NaN is logged as what it is, in valid JSON
    log = RunLog(tmp_path, tensorboard=False)
    log.log(1, "rl", 1, {"loss": (math.nan, 1.0), "kl": (math.inf, 2.0)})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line)["metrics"] == {"loss": ["nan", 1.0], "kl": ["inf", 2.0]}
    (row,) = read_metrics(tmp_path)
    assert math.isnan(row["metrics"]["loss"][0])
    assert row["metrics"]["kl"] == (math.inf, 2.0)
    log.close()


def test_tensorboard_gets_means(tmp_path):
    with RunLog(tmp_path, tensorboard=True) as log:
        log.log(1, "rl", 1, {"reward": (3.0, 8.0), "phase/generate_s": (2.0, 1.0), "kl": (0.0, 0.0)})
        log.log(2, "rl", 2, {"reward": (8.0, 8.0)})
        # Read while the run still holds the file: it was flushed.
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [(e.step, e.value) for e in events.Scalars("reward")] == [(1, 0.375), (2, 1.0)]
    assert events.Scalars("phase/generate_s")[0].value == 2.0
    assert set(events.Tags()["scalars"]) == {"reward", "phase/generate_s"}  # nothing was counted under kl


def test_a_line_cut_by_a_kill_is_dropped(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.log(1, "rl", 1, {"loss": (1.0, 1.0)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "stage": "r')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    with RunLog(tmp_path, tensorboard=False) as log:
        log.log(2, "rl", 2, {"loss": (2.0, 1.0)})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_resuming_repeats_no_step(tmp_path):  # R12
    with RunLog(tmp_path, tensorboard=True) as log:
        for step in (1, 2, 3):
            log.log(step, "rl", step, {"loss": (float(step), 1.0)})
    with RunLog(tmp_path, tensorboard=True, resume_step=1) as log:
        log.log(2, "rl", 2, {"loss": (20.0, 1.0)})
    assert [(row["step"], row["metrics"]["loss"][0]) for row in read_metrics(tmp_path)] == [(1, 1.0), (2, 20.0)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 20.0)]


def test_without_lines_nothing_is_read(tmp_path):
    RunLog(tmp_path, tensorboard=False).close()
    assert read_metrics(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "elsewhere")
