"""A whole run: its stages in order, each from the weights of the one before."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from rlvr.cluster.versions import versions
from rlvr.controller.checkpoint import CRITIC, MODELS, REPLAY, WINDOWS, RunState, latest_valid
from rlvr.controller.clock import Clock
from rlvr.controller.context import StageContext
from rlvr.controller.evaluate import EvaluationResult
from rlvr.controller.export import export_form, export_verified
from rlvr.controller.interrupt import interruptible, rescued
from rlvr.controller.kl import KlControl
from rlvr.controller.memory import peaks_of
from rlvr.controller.objective_state import ObjectiveState
from rlvr.controller.optimal_values import sample_reference_values
from rlvr.controller.replay import ReplayBuffer
from rlvr.controller.rl import train_rl
from rlvr.controller.rundir import RunDir, open_run_dir
from rlvr.controller.session import Session
from rlvr.controller.sft import demonstration_sequences, train_sft
from rlvr.controller.windows import windows_of
from rlvr.controller.worst_case import try_worst_case
from rlvr.curriculum.uniform import UniformCurriculum
from rlvr.errors import RecipeError, WorkerDied
from rlvr.observe.progress import Progress
from rlvr.observe.run_log import RunLog, read_metrics
from rlvr.observe.summary import StageSummary, render_summary, summarise, write_summary
from rlvr.recipe.arithmetic import total_optimizer_steps
from rlvr.recipe.objective import needs_reference
from rlvr.recipe.schema import EvalStage, Recipe, RlStage, SftStage, Source, Stage
from rlvr.records import derive_seed
from rlvr.scoring.service import RewardService
from rlvr.scoring.total import RewardTotal
from rlvr.tasks.prompts import PromptSet, build_prompts


@dataclass(slots=True)
class RunResult:
    """What a run came to: evaluations in order as (step, result), seconds, and the signal that ended it, if one did."""

    run: RunDir
    evaluations: list[tuple[int, EvaluationResult]] = field(default_factory=list)
    stages: list[StageSummary] = field(default_factory=list)
    seconds: float = 0.0
    signal: int | None = None


def run_recipe(recipe: Recipe, on_existing: str = "refuse", console: Console | None = None) -> RunResult:
    """Trains and evaluates as the recipe says. `on_existing`: "refuse", "resume" or "replace" an earlier run."""
    console = console or Console(quiet=True)
    started = time.monotonic()
    run = open_run_dir(recipe, on_existing)
    resumed = latest_valid(run.checkpoints) if on_existing == "resume" else None
    result = RunResult(run)
    if resumed and is_finished(run, recipe, resumed[1]):
        console.print(f"{run.path} is finished already; to train on, raise the steps of its last stage")
        return result
    trains = any(not isinstance(stage, EvalStage) for stage in recipe.stages)
    console.print(_opening(recipe, run, trains), highlight=False, markup=False)
    with _log_file(run), open_log(recipe, run, resumed) as log, Session(recipe, run, needs_learner=trains) as session:
        position = Position.resume(resumed, session) if resumed else Position(session.model_dir)
        with interruptible() as interruption:
            for index, stage in enumerate(recipe.stages):
                exported = _export_dir(run, recipe, index)
                if resumed and index < resumed[1].stage_index:
                    continue
                position.model_dir = starting_weights(run, recipe, index, session.model_dir)
                context = open_stage(session, run, log, stage, index, position, console)
                interruption.open(context)
                with rescued(context):
                    _run_stage(context, position, exported)
                result.evaluations += context.evaluations
                position.step = context.step
                if context.stop_requested:
                    result.signal = interruption.signal
                    break
    result.seconds = time.monotonic() - started
    # From the log and not from this process's memory, so that the summary of a resumed run is that of the whole.
    result.stages = summarise(read_metrics(run.path), {stage.name: stage.kind for stage in recipe.stages})
    status = "finished" if result.signal is None else "interrupted"
    facts = {"name": recipe.name, "status": status, "total_seconds": result.seconds, "versions": versions()}
    write_summary(run.path, result.stages, facts)
    console.print(render_summary(result.stages, recipe.name))
    return result


def _opening(recipe: Recipe, run: RunDir, trains: bool) -> str:
    """What a user reads while processes start, which takes a while."""
    engines, learners = recipe.resources.engines.count, recipe.resources.learners.count
    kind = recipe.stages[0].rollout.engine
    parts = [f"{engines} {kind} engine{'s' * (engines > 1)}"]
    parts += [f"{learners} DeepSpeed rank{'s' * (learners > 1)}"] if trains else []
    return f"{recipe.name}: starting Ray, {' and '.join(parts)} (up to half a minute); everything goes to {run.path}/"


def is_finished(run: RunDir, recipe: Recipe, state: RunState) -> bool:
    """Whether the checkpoint is that of the last step of the last stage, with everything after it done."""
    last = len(recipe.stages) - 1
    stage = recipe.stages[state.stage_index]
    done = state.stage_index == last and not isinstance(stage, EvalStage) and state.stage_step >= stage.steps
    return done and run.export.is_dir() and run.summary.is_file()


@dataclass(slots=True)
class Position:
    """Where the run stands between stages: the weights to start from, and steps finished over all stages."""

    model_dir: str
    step: int = 0
    checkpoint: Path | None = None
    state: RunState | None = None

    @classmethod
    def resume(cls, resumed: tuple[Path, RunState], session: Session) -> Position:
        path, state = resumed
        session.version = state.policy_version
        return cls(session.model_dir, state.step, path, state)


def open_stage(
    session: Session, run: RunDir, log: RunLog, stage: Stage, index: int, position: Position, console: Console
) -> StageContext[Any]:
    train = stage_prompts(session, stage, stage.task.train)
    test = stage_prompts(session, stage, stage.task.test) if stage.task.test else None
    if train.num_overlong:
        console.print(
            f"{stage.name}: {train.num_overlong} of {train.num_overlong + len(train.prompts)} prompts are longer than "
            f"rollout.max_prompt_tokens={stage.rollout.max_prompt_tokens} and were left out"
        )
    rewards = session.rewards(stage)
    check_golds(rewards, stage, train, test)
    state = position.state
    resumed = state is not None and state.stage_index == index
    drawn = state.drawn if state and resumed else 0
    progress = Progress(console, getattr(stage, "steps", 0), stage.name)
    return StageContext(
        session=session,
        run=run,
        stage=stage,
        stage_index=index,
        curriculum=UniformCurriculum(train.prompts, derive_seed(session.recipe.seed, stage.name, "curriculum"), drawn),
        test_prompts=test.prompts if test else [],
        rewards=rewards,
        total=RewardTotal(stage.reward, state.rewards if state and resumed else None),
        log=log,
        progress=progress,
        step=position.step,
        kl=KlControl(stage.objective, state.kl if state and resumed else None) if isinstance(stage, RlStage) else None,
        adaptive=_adaptive(stage, state.auxiliary if state and resumed else None),
        replay=_replay(stage, session.recipe.seed),
        windows=windows_of(stage, session.decode) if isinstance(stage, RlStage) else None,
        demonstrations=_demonstrations(session, stage, train),
        clock=Clock(partial(peaks_of, session)),
    )


def stage_prompts(session: Session, stage: Stage, source: Source) -> PromptSet:
    """The prompts of one of the stage's sources, phrased and tokenised as the stage says."""
    return build_prompts(source, stage.task.template, session.tokenizer, stage.rollout.max_prompt_tokens)


def check_golds(rewards: RewardService, stage: Stage, train: PromptSet | None, test: PromptSet | None) -> None:
    """Refuses gold answers that the stage's verifiers cannot use, before the first rollout; only what gets scored."""
    if isinstance(stage, RlStage) and train is not None:
        rewards.check_golds(train.prompts, f"stages.{stage.name}: task.train")
    if test is not None:
        rewards.check_golds(test.prompts[: stage.evaluation.num_prompts], f"stages.{stage.name}: task.test")


def _adaptive(stage: Stage, saved: Mapping[str, float] | None) -> ObjectiveState:
    return ObjectiveState(stage.objective.auxiliary, saved) if isinstance(stage, RlStage) else ObjectiveState()


def _demonstrations(session: Session, stage: Stage, train: PromptSet) -> dict[str, Any]:
    mixes = isinstance(stage, RlStage) and any(term.name == "sft_mix" for term in stage.objective.auxiliary)
    if not isinstance(stage, SftStage) and not mixes:
        return {}
    if train.demonstrations is None:
        raise RecipeError(f"stages.{stage.name}: the task has no demonstrations; name their column in columns.solution")
    limit, template = stage.rollout.max_completion_tokens, stage.task.template
    return demonstration_sequences(
        train.prompts, train.demonstrations, session.tokenizer, limit, template, stage.rollout.scheme
    )


def _run_stage(context: StageContext[Any], position: Position, exported: Path | None) -> None:
    stage, session = context.stage, context.session
    if isinstance(stage, EvalStage):
        if session.needs_learner and position.step:
            session.push()
        context.evaluate()
        return
    with context.progress:
        first_step = prepare_learner(context, position)
        if isinstance(stage, RlStage):
            train_rl(context, first_step)
        else:
            train_sft(context, first_step)
    if exported is not None and not context.stop_requested:
        export_verified(session.learner, exported, export_form(stage, last=exported == context.run.export))
        critic = session.critic(stage)
        if critic:
            critic.export(context.run.critic_export(stage.name))


def _replay(stage: Stage, seed: int) -> ReplayBuffer | None:
    if not isinstance(stage, RlStage) or stage.objective.replay is None:
        return None
    return ReplayBuffer(stage.objective.replay, stage.reward.correct_term, seed, stage.name)


def prepare_learner(context: StageContext[Any], position: Position) -> int:
    """Loads the stage's starting weights (or its checkpoint), verifies them on the engines; the first step to run."""
    stage, session = context.stage, context.session
    session.learner.setup(
        position.model_dir,
        stage.learner,
        total_optimizer_steps(stage),
        session.recipe.seed,
        reference=isinstance(stage, RlStage) and needs_reference(stage.objective),
        trust_remote_code=session.recipe.model.trust_remote_code,
    )
    teacher = stage.objective.teacher if isinstance(stage, RlStage) else None
    if teacher is not None:
        session.learner.load_teacher(teacher.path or context.run.stage_export(str(teacher.from_stage)))
    side_models = session.side_models(stage, position.model_dir)
    critic = session.critic(stage, position.model_dir)
    if isinstance(stage, RlStage):
        sample_reference_values(context)
    first_step, evaluation_due = 0, False
    if position.state is not None and position.state.stage_index == context.stage_index:
        assert position.checkpoint is not None
        session.learner.load(position.checkpoint / "learner")
        side_models.load(position.checkpoint / MODELS)
        if critic:
            critic.load(position.checkpoint / CRITIC)
        if context.replay:
            context.replay.load(position.checkpoint / REPLAY)
        if context.windows:
            context.windows.load(position.checkpoint / WINDOWS, context.curriculum.prompts)
        first_step = context.stage_step = position.state.stage_step
        evaluation_due = position.state.evaluation_due
    position.state = None
    if stage.learner.worst_case_step:
        context.log.log(context.step, stage.name, 0, try_worst_case(context))
    if isinstance(stage, RlStage):
        session.push()
    if first_step == 0:
        # A trial save: a full disk or a wrong permission shows now, not after the first hours.
        context.save(0)
    context.at_rest(first_step, evaluation_due)
    if evaluation_due or (first_step == 0 and stage.evaluation.at_start):
        context.evaluate()
        context.at_rest(first_step)
    context.clock.take()
    return first_step


def starting_weights(run: RunDir, recipe: Recipe, index: int, model_dir: str) -> str:
    """What stage `index` starts from: what `start_from`, else the last stage that trained, left; else the model."""
    stage = recipe.stages[index]
    if not isinstance(stage, EvalStage) and stage.start_from is not None:
        return str(run.stage_export(stage.start_from))
    before = [_export_dir(run, recipe, i) for i in range(index)]
    return str(next((path for path in reversed(before) if path is not None), model_dir))


def _export_dir(run: RunDir, recipe: Recipe, index: int) -> Path | None:
    """Where a stage's weights go: export/ after the last stage that trains, stages/<name>/ after earlier ones."""
    training = [i for i, stage in enumerate(recipe.stages) if not isinstance(stage, EvalStage)]
    if index not in training:
        return None
    return run.export if index == training[-1] else run.stage_export(recipe.stages[index].name)


@contextmanager
def open_log(recipe: Recipe, run: RunDir, resumed: tuple[Path, RunState] | None) -> Iterator[RunLog]:
    tensorboard = any(stage.monitor.tensorboard for stage in recipe.stages)
    log = RunLog(run.path, tensorboard, resume_step=resumed[1].step if resumed else None)
    try:
        yield log
    finally:
        log.close()


@contextmanager
def _log_file(run: RunDir) -> Iterator[None]:
    handler = logging.FileHandler(run.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("rlvr")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        root.exception("the run ended with an error")
        if isinstance(error, WorkerDied):
            run.autopsy.write_text("\n".join([str(error), *getattr(error, "__notes__", [])]) + "\n")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
