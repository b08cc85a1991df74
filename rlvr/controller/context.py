"""What the loop of one stage works with, and what follows every step: logs, evaluation, checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from rlvr.cluster.roster import ROSTER
from rlvr.controller.account import warnings_on
from rlvr.controller.checkpoint import CRITIC, REPLAY, WINDOWS, RunState, checkpoint_path, is_saved, save_checkpoint
from rlvr.controller.clock import Clock
from rlvr.controller.evaluate import EvaluationResult, evaluate
from rlvr.controller.kl import KlControl
from rlvr.controller.memory import by_process, memory_metrics
from rlvr.controller.objective_state import ObjectiveState
from rlvr.controller.replay import ReplayBuffer
from rlvr.controller.rundir import RunDir
from rlvr.controller.session import Session
from rlvr.controller.windows import Windows
from rlvr.curriculum.uniform import UniformCurriculum
from rlvr.metrics import Metrics, means
from rlvr.observe.progress import Progress
from rlvr.observe.rollout_log import write_rollouts
from rlvr.observe.run_log import RunLog
from rlvr.recipe.schema import EvalStage, RlStage, SftStage
from rlvr.records import Group, Prompt
from rlvr.scoring.noise import with_added_noise
from rlvr.scoring.service import RewardService
from rlvr.scoring.total import RewardTotal

RESCUE_S = 300.0  # for a checkpoint that is written because the run ends early
AnyStage = TypeVar("AnyStage", SftStage, RlStage, EvalStage)


@dataclass(slots=True)
class StageContext(Generic[AnyStage]):
    """One stage in progress. `step` counts finished steps over all stages, `stage_step` those of this one."""

    session: Session
    run: RunDir
    stage: AnyStage
    stage_index: int
    curriculum: UniformCurriculum
    test_prompts: Sequence[Prompt]
    rewards: RewardService
    total: RewardTotal
    log: RunLog
    progress: Progress
    step: int = 0
    stage_step: int = 0
    kl: KlControl | None = None
    replay: ReplayBuffer | None = None
    windows: Windows | None = None
    adaptive: ObjectiveState = field(default_factory=ObjectiveState)
    demonstrations: Mapping[str, Any] = field(default_factory=dict)
    evaluations: list[tuple[int, EvaluationResult]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    stop_requested: bool = False
    # The last finished step, while the learner and the models beside it are as that step left them.
    resumable: RunState | None = None

    @property
    def seed(self) -> int:
        return self.session.recipe.seed

    def judge(self, generated: Iterable[Group]) -> Iterator[Group]:
        """Yields the groups of a training step with all of their outcomes filled in, as they finish."""
        reward = self.stage.reward
        noise = reward.noise
        term = noise.term if noise is not None else None
        noisy = with_added_noise(self.rewards.score(generated), noise, term or reward.correct_term)
        return self.session.side_models(self.stage).score(noisy)

    def finish_step(self, stage_step: int, metrics: Metrics) -> None:
        """Closes a step: its line in the log, then evaluation and checkpoint when due (whose time no step counts)."""
        assert not isinstance(self.stage, EvalStage)
        self.step += 1
        done = self.stage_step = stage_step + 1
        last = done == self.stage.steps
        held = self.clock.peaks
        timed = self.clock.take() | memory_metrics(held)
        seconds = timed["step_s"][0]
        if "tokens/generated" in metrics:
            timed["tokens_per_s"] = (metrics["tokens/generated"][0], seconds)
        metrics = metrics | timed
        values = means(metrics)
        self.log.log(self.step, self.stage.name, done, metrics, extra={"memory_gb": by_process(held)} if held else None)
        self.progress.update(done, values)
        for warning in warnings_on(values, self.stage.monitor):
            self.progress.note(f"{self.stage.name} {done}: {warning}")
        config = self.stage.evaluation
        due = bool((config.every and done % config.every == 0 and not last) or (last and config.at_end))
        self.at_rest(done, evaluation_due=due and bool(self.test_prompts))
        if due:
            self.evaluate()
            self.at_rest(done)
        if last or self.stop_requested or (self.stage.checkpoint.every and done % self.stage.checkpoint.every == 0):
            self.save(done)
        self.clock.take()

    def evaluate(self) -> EvaluationResult | None:
        """Held-out accuracy of the engines' weights; None where the task has no test prompts."""
        if not self.test_prompts:
            return None
        if isinstance(self.stage, SftStage):
            # Only reinforcement learning pushes after every step.
            self.session.push()
        result, groups = evaluate(self.session, self.stage, self.test_prompts, self.total, self.stage_step)
        if isinstance(self.stage, SftStage):
            self.session.rollouts.on_all("sleep")
        self.evaluations.append((self.step, result))
        write_rollouts(self.run.path, self.step, groups, self.stage.name, kind="eval")
        scores = {f"eval/{name}": (estimate.value, 1.0) for name, estimate in result.metrics.items()}
        self.log.log(self.step, self.stage.name, 0, scores, extra={"evaluation": result.to_json()})
        shown = "  ".join(f"{n} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for n, e in result.metrics.items())
        self.progress.note(
            f"{self.stage.name}: after {self.step} steps, {result.num_prompts} held-out prompts: {shown}"
        )
        return result

    def at_rest(self, stage_step: int, evaluation_due: bool = False) -> None:
        """Notes that `stage_step` steps of the stage are finished and that nothing has moved since."""
        self.resumable = self._state(stage_step, evaluation_due)
        if self.windows:
            self.windows.rest()
        ROSTER.where = f"stage {self.stage.name}, step {stage_step + 1}"

    def begin_update(self) -> None:
        """Notes that weights, or other state that a checkpoint holds, begin to change."""
        self.resumable = None

    def save(self, stage_step: int) -> None:
        """A checkpoint of this moment."""
        self._save(self._state(stage_step), self.session.learner.save)

    def save_resumable(self) -> Path:
        """The checkpoint of the last finished step, which is written unless it is there. Takes `RESCUE_S` at most."""
        state = self.resumable
        assert state is not None, "an update has begun"
        final = checkpoint_path(self.run.checkpoints, state)
        if is_saved(final, state):
            return final
        limit_s = min(RESCUE_S, self.session.recipe.resources.step_timeout_s)
        return self._save(state, partial(self.session.learner.save, timeout_s=limit_s))

    def _save(self, state: RunState, save_learner: Callable[[Path], None]) -> Path:
        assert not isinstance(self.stage, EvalStage)
        keep = self.stage.checkpoint.keep
        return save_checkpoint(self.run.checkpoints, state, save_learner, keep, self._save_beside)

    def _state(self, stage_step: int, evaluation_due: bool = False) -> RunState:
        """A copy of what the controller knows now."""
        return deepcopy(
            RunState(
                self.step,
                self.stage_index,
                stage_step,
                self.curriculum.drawn,
                self.session.version,
                rewards=self.total.state(),
                kl=self.kl.state() if self.kl is not None else {},
                auxiliary=self.adaptive.state(),
                evaluation_due=evaluation_due,
            )
        )

    def _save_beside(self, models: Path) -> None:
        self.session.side_models(self.stage).save(models)
        critic = self.session.critic(self.stage)
        if critic:
            critic.save(models.with_name(CRITIC))
        if self.replay:
            self.replay.save(models.with_name(REPLAY))
        if self.windows:
            self.windows.save(models.with_name(WINDOWS))
