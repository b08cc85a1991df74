"""Processes of a real run are killed or stopped in every phase: it recovers, or ends soon and names the dead.

Long: each case is a run of its own. None may leave a process behind.
"""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rlvr.errors import EXIT_CODES
from rlvr.observe.rollout_log import read_rollouts
from tests.end_to_end.conftest import QUICKSTART, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MARK = "RLVR_TEST_RUN"
STEPS = 4
LIVENESS_S = 15
WITHIN_S = 150  # from the blow to the end, a replaced engine's start and the remaining steps included
NUM_SFT = 2
REWARD = """
import pathlib, time

FOLDER = pathlib.Path({folder!r})

def measured(completion, num_tokens):
    (FOLDER / "scoring").touch()
    if (FOLDER / "broken").exists():
        raise ValueError("broken on purpose")
    time.sleep(0.02)
    return sum(map(ord, completion)) % 11 / 10
"""
SETTINGS = [
    f"stages.sft.steps={NUM_SFT}",
    f"stages.rl.steps={STEPS}",
    "rollout.prompts_per_step=8",
    "rollout.group_size=8",
    "evaluation={every: 0, at_start: false, at_end: false}",
    "checkpoint.every=1",
    "stages.sft.checkpoint.every=0",
    f"resources.liveness_timeout_s={LIVENESS_S}",
]
METHODS = {"learn": "train_rl", "transfer": "gather_bucket", "save": "save"}  # of the learner, as Ray titles processes
TITLES = {"engine": "ray::RolloutWorker", "learner": "ray::LearnerWorker", "reward": "ray::RewardWorker"}
NAMES = {"engine": r"engine \d", "learner": r"learner rank \d", "reward": r"reward worker \d"}
# A rank that is idle is missed when it is next called.
PHASES = {
    "generate": "learn",
    "score": "learn",
    "learn": "learn",
    "transfer": "transfer|save|learn",
    "save": "save|learn",
}


class Running:
    """A run in a process of its own, all of whose descendants carry a mark in their environment."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.mark = uuid.uuid4().hex
        self.path = folder / "run"
        reward = folder / "reward.py"
        reward.write_text(REWARD.format(folder=str(folder)))
        self.folder = folder
        command = [sys.executable, "-m", "rlvr.cli.main", "train", str(QUICKSTART), f"runs_dir={folder}", "name=run"]
        term = f"reward.terms.measured={{fn: {reward}:measured, weight: 1.0}}"
        self.output = (folder / "output").open("w+")
        self.process = subprocess.Popen(
            [*command, *SETTINGS, term, *settings],
            cwd=ROOT,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=os.environ | {MARK: self.mark, "COLUMNS": "160"},
        )

    def processes(self) -> list[psutil.Process]:
        """Everything that carries the mark, but the run itself."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == self.mark
                if marked and process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def actors(self, kind: str) -> list[psutil.Process]:
        return [p for p in self.processes() if title(p).startswith(TITLES[kind]) and own_name(p)]

    def wait(self, condition: Callable[[], object], limit_s: float = 300) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.002)

    def wait_for(self, phase: str) -> None:
        """Returns in that phase of the second RL step or a later one."""
        self.wait(lambda: (self.path / "rollouts" / f"step-{NUM_SFT + 1:06d}.jsonl").exists())
        scoring, done = self.folder / "scoring", self.path / "checkpoints" / f"step-{NUM_SFT + 1:06d}"
        self.wait(done.exists)
        if phase in METHODS:
            ranks = self.actors("learner")
            self.wait(lambda: any(METHODS[phase] in title(rank) for rank in ranks))
        elif phase == "score":
            scoring.unlink(missing_ok=True)
            self.wait(scoring.exists)

    def end(self, limit_s: float) -> int:
        """The exit code, once the run has ended, and no process of it is left."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said()) from None
        deadline = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, [(process.pid, title(process)) for process in left]
        return code

    def said(self) -> str:
        self.output.flush()
        return (self.folder / "output").read_text()

    def completions(self) -> list[str]:
        files = sorted((self.path / "rollouts").glob("step-*.jsonl"))
        return [row["completion"] for file in files for row in read_rollouts(file)]

    def close(self) -> None:
        self.process.kill()
        for process in self.processes():
            process.kill()
        self.output.close()


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def own_name(process: psutil.Process) -> bool:
    """Whether it is the actor and not a process that was forked from it and has its title."""
    parent = process.parent()
    return parent is not None and "raylet" in parent.name()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    runs: list[Running] = []

    def begin(*settings: str, folder: str = "") -> Running:
        (tmp_path / folder).mkdir(exist_ok=True)
        runs.append(Running(tmp_path / folder, *settings))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    run = Running(tmp_path_factory.mktemp("undisturbed"))
    assert run.end(300) == 0, run.said()
    return run.completions()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("phase", ["generate", "score", "learn", "transfer", "save"])
@pytest.mark.parametrize("kind", ["engine", "learner", "reward"])
def test_any_death_in_any_phase(
    start: Callable[..., Running], undisturbed: list[str], kind: str, phase: str, blow: signal.Signals
) -> None:
    """R8, R22: engines and reward workers are replaced and nothing shows; a rank's death ends the run, by name."""
    run = start()
    run.wait_for(phase)
    victim = run.actors(kind)[-1]
    os.kill(victim.pid, blow)
    code = run.end(WITHIN_S)
    fate = "died" if blow == signal.SIGKILL else "is frozen"
    log = (run.path / "log.txt").read_text()
    if kind == "learner":
        assert code == 4, run.said()
        message = run.said().rstrip()
        last = message[message.rindex("WorkerDied") :]
        assert re.match(rf"WorkerDied: {NAMES[kind]} {fate} in phase ({PHASES[phase]})", last), last
        assert f"pid {victim.pid}" in last
        assert "memory" in last
        assert last.startswith("WorkerDied: " + (run.path / "autopsy.txt").read_text().strip()[:60])
        assert "--resume" in last
    else:
        assert code == 0, run.said()
        assert run.completions() == undisturbed
        if phase not in ("transfer", "save", "learn") or kind == "engine":
            assert re.search(rf"{NAMES[kind]}.* {fate} in phase", log), log


@pytest.mark.parametrize("number", list(EXIT_CODES), ids=lambda number: signal.Signals(number).name)
def test_a_signal_while_generating_saves_the_last_step_at_once(
    start: Callable[..., Running], undisturbed: list[str], number: int
) -> None:
    """R22: the code says which; the run goes on from there as if nothing had been."""
    run = start("checkpoint.every=0")
    rollouts = run.path / "rollouts" / f"step-{NUM_SFT + 2:06d}.jsonl"
    run.wait(rollouts.exists)
    run.wait(lambda: (run.folder / "scoring").stat().st_mtime > rollouts.stat().st_mtime)
    os.kill(run.process.pid, number)
    assert run.end(60) == EXIT_CODES[number], run.said()
    assert not (run.path / "rollouts" / f"step-{NUM_SFT + STEPS:06d}.jsonl").exists()
    again = start("checkpoint.every=0", "--resume")
    assert again.end(300) == 0, again.said()
    assert again.completions() == undisturbed


def test_an_error_while_scoring_leaves_the_last_step_saved(
    start: Callable[..., Running], undisturbed: list[str]
) -> None:
    """A run that broken verifiers end can be taken up where it was, once they are mended."""
    run = start("checkpoint.every=0", "reward.on_failure.retries=0")
    run.wait((run.path / "rollouts" / f"step-{NUM_SFT + 2:06d}.jsonl").exists)
    (run.folder / "broken").touch()
    assert run.end(WITHIN_S) == 3, run.said()
    assert "Saved: " in run.said()
    (run.folder / "broken").unlink()
    again = start("checkpoint.every=0", "reward.on_failure.retries=0", "--resume")
    assert again.end(300) == 0, again.said()
    assert again.completions() == undisturbed


@pytest.mark.parametrize("stopped", [None, "engine", "learner"])
def test_a_killed_driver_leaves_no_process(start: Callable[..., Running], stopped: str | None) -> None:
    """R22: kill -9 of the run itself; also while a worker is stopped and cannot notice."""
    run = start("stages.rl.steps=1000")
    run.wait_for("generate")
    if stopped:
        os.kill(run.actors(stopped)[0].pid, signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGKILL)
    assert run.end(30) == -signal.SIGKILL
