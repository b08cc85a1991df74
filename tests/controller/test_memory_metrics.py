"""Peaks of processes as metrics of a step."""

from rlvr.cluster.memory import PeakMemory
from rlvr.controller.clock import Clock
from rlvr.controller.memory import by_process, memory_metrics

PEAKS = {
    "rollout": {"driver": PeakMemory(0.5), "learner rank 0": PeakMemory(1.0), "learner rank 1": PeakMemory(3.0)},
    "learn": {
        "driver": PeakMemory(0.25),
        "learner rank 0": PeakMemory(4.0, 9.0, 10.0),
        "engine 0 (vllm)": PeakMemory(2.0),
        "reward.models.judge": PeakMemory(1.0),
        "reward worker 12": PeakMemory(0.125),
    },
}


def test_of_processes_of_one_kind_the_largest_is_the_metric() -> None:
    assert memory_metrics(PEAKS) == {
        "memory/driver/rollout_gb": (0.5, 1.0),
        "memory/learner/rollout_gb": (3.0, 1.0),
        "memory/driver/learn_gb": (0.25, 1.0),
        "memory/learner/learn_gb": (4.0, 1.0),
        "gpu_memory/learner/learn_gb": (10.0, 1.0),
        "memory/engine/learn_gb": (2.0, 1.0),
        "memory/reward.models.judge/learn_gb": (1.0, 1.0),
        "memory/reward_worker/learn_gb": (0.125, 1.0),
    }


def test_the_log_holds_each_process() -> None:
    found = by_process(PEAKS)
    assert found["learner rank 1"] == {"rollout": 3.0}
    assert found["driver"] == {"rollout": 0.5, "learn": 0.25}


def test_a_phase_that_comes_twice_has_its_higher_peak() -> None:
    """The clock asks before the first phase, so that what came before is not the phase's, and after each."""
    told = iter([9.0, 2.0, 5.0, 3.0])
    clock = Clock(lambda: {"driver": PeakMemory(next(told))})
    for name in ("rollout", "learn", "rollout"):
        with clock.phase(name):
            pass
    assert {phase: held["driver"].host_gb for phase, held in clock.peaks.items()} == {"rollout": 3.0, "learn": 5.0}
    assert clock.take()["step_s"][1] == 1.0
    assert not clock.peaks
