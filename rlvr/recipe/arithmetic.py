"""What a recipe's numbers imply: prompts -> rollouts -> mini-batches -> optimizer steps -> tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rlvr.recipe.objective import needs_reference
from rlvr.recipe.schema import EnvironmentScheme, EvalStage, ResourcesConfig, RlStage, SftStage
from rlvr.recipe.side_models import VllmModel
from rlvr.recipe.trained_models import ClassifierModel, TrainedModel

Stage = SftStage | RlStage | EvalStage
Row = tuple[str, int | str, str]


def context_length(stage: Stage) -> int:
    """Tokens that an engine must be able to hold: the longest prompt with the longest completion of any use.

    Turns do not add to it: a completion counts the actions and observations of all of them. A prompt that is rebuilt
    between turns may take what the completion leaves of this length.
    """
    completion = stage.rollout.max_completion_tokens
    return stage.rollout.max_prompt_tokens + max(completion, stage.evaluation.max_completion_tokens or completion)


def total_optimizer_steps(stage: Stage) -> int:
    """Optimizer steps of a stage, in which schedules are sized. Skipped steps (non-finite gradients) count."""
    if isinstance(stage, RlStage):
        critic = stage.objective.critic
        steps = stage.steps - (critic.warmup_steps if critic else 0)
        return steps * stage.learner.epochs * stage.learner.mini_batches
    return stage.steps if isinstance(stage, SftStage) else 0


def critic_optimizer_steps(stage: RlStage) -> int:
    """Optimizer steps of the stage's critic, in which its schedule is sized; it also learns in its warm-up."""
    critic = stage.objective.critic
    return stage.steps * critic.epochs * critic.mini_batches if critic and not critic.frozen else 0


def prompts_drawn(stage: RlStage) -> int:
    """Prompts that a stage draws at most, refills included."""
    refill = stage.objective.filter.zero_variance == "refill"
    rounds = stage.objective.filter.max_generation_rounds if refill else 1
    return stage.steps * stage.rollout.prompts_per_step * rounds


def num_evaluations(stage: Stage) -> int:
    """How often a stage evaluates; 0 without a test source."""
    if stage.task.test is None:
        return 0
    if isinstance(stage, EvalStage):
        return 1
    every, steps = stage.evaluation.every, stage.steps
    at = {0} if stage.evaluation.at_start else set()
    at |= set(range(every, steps + 1, every)) if every else set()
    at |= {steps} if stage.evaluation.at_end else set()
    return len(at)


def derive(stage: Stage, resources: ResourcesConfig) -> list[Row]:
    """Rows of (quantity, value, how it comes about), from what is written to what is implied."""
    if isinstance(stage, RlStage):
        rows = _rl(stage, resources)
    elif isinstance(stage, SftStage):
        rows = _sft(stage, resources)
    else:
        rows = []
    prompt, longest = stage.rollout.max_prompt_tokens, context_length(stage)
    rows.append(("engine context length", longest, f"{prompt} prompt + {longest - prompt} completion tokens"))
    return rows + _turns(stage) + _evaluation(stage)


def gpu_demand(resources: ResourcesConfig) -> tuple[int, int, int]:
    """(engine GPUs, learner GPUs, GPUs of both) where there are any; colocated engines and learners share theirs."""
    engines, learners = resources.engines.count * resources.engines.tensor_parallel, resources.learners.count
    return engines, learners, max(engines, learners) if resources.placement == "colocated" else engines + learners


def side_processes(stages: Iterable[Stage]) -> list[tuple[str, float]]:
    """(name, GPUs) of each process beside engines and learners, in the stage that asks for the most of them.

    Stages follow each other, and the processes of one end before those of the next start.
    """
    return max((_side_processes(stage) for stage in stages), key=lambda found: sum(gpus for _, gpus in found))


def _side_processes(stage: Stage) -> list[tuple[str, float]]:
    asked = {term.model for term in stage.reward.terms.values()}
    found: list[tuple[str, float]] = []
    for name, model in stage.reward.models.items():
        if isinstance(model, VllmModel):
            # More than one GPU is tensor parallelism over whole ones.
            found.append((f"reward.models.{name}", model.gpus if model.gpus <= 1 else math.ceil(model.gpus)))
        elif isinstance(model, TrainedModel) and name in asked:
            trained = model.train if isinstance(model, ClassifierModel) else model
            found += [(f"reward.models.{name}", model.gpus)] * (trained.ranks if trained else 1)
    critic = stage.objective.critic if isinstance(stage, RlStage) else None
    found += [("objective.critic", critic.gpus)] * critic.ranks if critic else []
    return [(name, gpus) for name, gpus in found if gpus]


def _rl(stage: RlStage, resources: ResourcesConfig) -> list[Row]:
    rollout, learner, ranks = stage.rollout, stage.learner, resources.learners.count
    rollouts = rollout.prompts_per_step * rollout.group_size
    per_mini = rollouts // learner.mini_batches
    tokens = rollouts * rollout.max_completion_tokens
    longest = rollout.max_prompt_tokens + rollout.max_completion_tokens
    worst = per_mini * longest
    # A sequence over the budget gets a micro-batch alone, so no rank can need more micro-batches than sequences.
    per_micro = max(1, learner.max_tokens_per_micro_batch // longest) if learner.packing else 1
    micro = -(-per_mini // (ranks * per_micro))
    critic = stage.objective.critic
    warmup = critic.warmup_steps if critic else 0
    rows: list[Row] = [
        ("prompts per step", rollout.prompts_per_step, "rollout.prompts_per_step"),
        ("rollouts per step", rollouts, f"{rollout.prompts_per_step} prompts x {rollout.group_size} completions"),
        (
            "rollouts per engine",
            -(-rollouts // resources.engines.count),
            f"{rollouts} over {resources.engines.count} engines",
        ),
        ("rollouts per mini-batch", per_mini, f"{rollouts} / {learner.mini_batches} mini-batches"),
        (
            "optimizer steps per step",
            learner.epochs * learner.mini_batches,
            f"{learner.epochs} epochs x {learner.mini_batches}",
        ),
        ("steps", stage.steps, "written"),
        (
            "optimizer steps",
            total_optimizer_steps(stage),
            f"{stage.steps - warmup} steps x {learner.epochs * learner.mini_batches}",
        ),
        ("completion tokens per step, at most", tokens, f"{rollouts} rollouts x {rollout.max_completion_tokens}"),
        ("tokens per mini-batch, at most", worst, f"{per_mini} rollouts x {longest} tokens"),
        (
            "micro-batches per rank, all at full length",
            micro,
            f"{per_mini} rollouts over {ranks} ranks, {per_micro} of {longest} tokens at a time",
        ),
        ("rollouts in all", stage.steps * rollouts, f"{stage.steps} steps x {rollouts}"),
    ]
    if stage.objective.filter.zero_variance == "refill":
        rounds = stage.objective.filter.max_generation_rounds
        rows.append(
            ("rollouts generated per step, at most", rounds * rollouts, f"refill: {rounds} rounds x {rollouts}")
        )
    if critic is not None and not critic.frozen:
        how = f"{stage.steps} steps x {critic.epochs * critic.mini_batches}, the first {warmup} steps alone"
        rows.append(("critic's optimizer steps", critic_optimizer_steps(stage), how))
    samples = getattr(stage.objective.policy_loss, "reference_samples", 0)
    if samples:
        drawn, size = prompts_drawn(stage), getattr(stage.task.train, "size", None)
        prompts = min(drawn, size) if size is not None else drawn
        how = f"{prompts} prompts x {samples}, before the first step, for V*"
        rows.append(("completions of the starting weights, at most", prompts * samples, how))
    need = needs_reference(stage.objective)
    how = f"objective.kl.coefficient={stage.objective.kl.coefficient:g}"
    if need and learner.lora is not None:
        how += ", the base with adapters off"
    rows.append(("reference policy", "yes" if need else "no", how))
    if learner.lora is not None:
        layers = learner.lora.target_modules
        named = layers if isinstance(layers, str) else ", ".join(layers)
        rows.append(("trained weights", f"LoRA of rank {learner.lora.rank}", named))
    return rows


def _sft(stage: SftStage, resources: ResourcesConfig) -> list[Row]:
    seen = stage.steps * stage.batch_size
    size = getattr(stage.task.train, "size", None)
    how = f"{stage.steps} steps x {stage.batch_size}"
    return [
        ("demonstrations per step", stage.batch_size, "batch_size"),
        (
            "demonstrations per rank",
            -(-stage.batch_size // resources.learners.count),
            f"over {resources.learners.count} ranks",
        ),
        ("optimizer steps", stage.steps, "one per step"),
        ("demonstrations in all", seen, how + (f" = {seen / size:.1f} epochs" if size else "")),
    ]


def _turns(stage: Stage) -> list[Row]:
    """What the turns of a rollout may come to; shown beside the limit that cuts them."""
    scheme = stage.rollout.scheme
    if not isinstance(scheme, EnvironmentScheme):
        return []
    turns, action, observation = scheme.max_turns, scheme.max_turn_tokens, scheme.max_observation_tokens
    asked = turns * action + (turns - 1) * observation
    how = f"{turns} actions x {action} + {turns - 1} observations x {observation}"
    limit = stage.rollout.max_completion_tokens
    how += f", cut at rollout.max_completion_tokens={limit}" if asked > limit else ""
    return [("tokens of a rollout, at most", min(asked, limit), how)]


def _evaluation(stage: Stage) -> list[Row]:
    times = num_evaluations(stage)
    if not times:
        return [("evaluations", 0, "no task.test")]
    evaluation = stage.evaluation
    sizes = [n for n in (evaluation.num_prompts, getattr(stage.task.test, "size", None)) if n is not None]
    per_prompt = evaluation.greedy + evaluation.num_samples
    rows: list[Row] = [
        ("evaluations", times, f"start {evaluation.at_start}, every {evaluation.every}, end {evaluation.at_end}")
    ]
    if sizes:
        prompts = min(sizes)
        rows.append(
            ("completions per evaluation", prompts * per_prompt, f"{prompts} prompts x {per_prompt} completions")
        )
    return rows


def divisors_near(number: int, wanted: int) -> list[int]:
    """The divisors of `number` next to `wanted`, below and above: (256, 3) -> [2, 4]."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below, above = [d for d in divisors if d <= wanted], [d for d in divisors if d > wanted]
    return below[-1:] + above[:1]
