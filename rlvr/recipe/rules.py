"""Rules that span sections of a recipe, all checked before any resource is claimed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlvr.errors import RecipeError
from rlvr.recipe.advantage_rules import advantage_faults, kl_faults
from rlvr.recipe.arithmetic import divisors_near
from rlvr.recipe.credit_rules import credit_faults
from rlvr.recipe.critic_rules import GAE
from rlvr.recipe.exploration_rules import rollout_faults
from rlvr.recipe.judge_rules import judge_faults
from rlvr.recipe.lora import lora_faults
from rlvr.recipe.memory_rules import memory_faults
from rlvr.recipe.model_rules import model_faults
from rlvr.recipe.noise_rules import noise_faults
from rlvr.recipe.objective_rules import objective_faults
from rlvr.recipe.origin_rules import origin_faults
from rlvr.recipe.preference_rules import terms_read
from rlvr.recipe.resource_rules import resource_faults
from rlvr.recipe.schema import (
    AdditionSource,
    CountdownSource,
    CustomSource,
    EnvironmentScheme,
    EvalStage,
    HubSource,
    InitConfig,
    JsonlSource,
    ProgramRepairSource,
    Recipe,
    RewardConfig,
    RlStage,
    SftStage,
    Source,
)
from rlvr.slots import check_name, is_path, split_path, table_names

# vLLM's CPU attention kernels exist for these head sizes only.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)
# These compare the completions of one prompt with each other; one completion alone always gets advantage 0.
GROUP_ADVANTAGES = ("grpo", "dr_grpo", "rloo", "lite_ppo", "reinforce++_baseline", "opo", "maxrl", "pass_at_k", "bnpo")

# What an engine is started with.
ENGINE_KEYS = ("engine", "dtype", "kv_cache_gb", "gpu_memory_utilization", "enforce_eager", "prefix_caching")

PROCEDURAL = AdditionSource | CountdownSource | ProgramRepairSource

Stage = SftStage | RlStage | EvalStage


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken rule: where (a path into the recipe), the value there, the fault with its remedy."""

    loc: tuple[int | str, ...]
    value: object
    text: str


def check(recipe: Recipe) -> None:
    """Raises RecipeError listing every rule that the recipe breaks, each with the nearest feasible values."""
    names = [stage.name for stage in recipe.stages]
    lines = [f"{_dotted(p.loc, names)}={p.value}: {p.text}" for p in problems(recipe)]
    if lines:
        raise RecipeError("\n".join(dict.fromkeys(lines)))


def problems(recipe: Recipe) -> list[Problem]:
    """Every broken rule, in the order of the recipe."""
    found = list(_model(recipe))
    found += _resources(recipe)
    found += _engines(recipe)
    for index, stage in enumerate(recipe.stages):
        at = ("stages", index)
        found += [Problem((*at, *p.loc), p.value, p.text) for p in _stage(recipe, stage)]
        for loc, value, text in origin_faults(recipe.stages, index):
            found.append(Problem((*at, *loc), value, text))
    return found


def _dotted(loc: tuple[int | str, ...], names: list[str]) -> str:
    if loc[:1] == ("stages",) and len(loc) > 1:
        loc = ("stages", names[int(loc[1])], *loc[2:])
    return ".".join(map(str, loc))


def _model(recipe: Recipe) -> Iterator[Problem]:
    model = recipe.model
    if (model.path is None) == (model.init is None):
        yield Problem(("model",), None, "give exactly one of path and init")
    if model.path is not None and Path(model.path).is_absolute() and not (Path(model.path) / "config.json").is_file():
        yield Problem(("model", "path"), model.path, "no Hugging Face model (config.json) in this directory")
    if model.init is None:
        return
    if model.revision is not None:
        yield Problem(("model", "revision"), model.revision, "only a hub model has revisions; remove it")
    if model.trust_remote_code:
        yield Problem(("model", "trust_remote_code"), True, "a model built by init ships no code; remove it")
    yield from (Problem(("model", "init", *p.loc), p.value, p.text) for p in _init(recipe, model.init))


def _init(recipe: Recipe, init: InitConfig) -> Iterator[Problem]:
    heads = init.num_heads
    if init.hidden_size % heads:
        near = " or ".join(map(str, divisors_near(init.hidden_size, heads)))
        yield Problem(("num_heads",), heads, f"must divide hidden_size={init.hidden_size}; nearest: {near}")
    elif (
        any(stage.rollout.engine == "vllm" for stage in recipe.stages)
        and init.hidden_size // heads not in CPU_HEAD_SIZES
    ):
        size = init.hidden_size // heads
        feasible = [init.hidden_size // s for s in CPU_HEAD_SIZES if init.hidden_size % s == 0]
        text = f"heads of {init.hidden_size}/{heads}={size}: vLLM's CPU kernels know {CPU_HEAD_SIZES}; "
        text += f"feasible here: num_heads {feasible}" if feasible else "choose a hidden_size that is a multiple of 32"
        yield Problem(("num_heads",), heads, text + ", or rollout.engine=transformers")
    if heads % init.num_kv_heads:
        near = " or ".join(map(str, divisors_near(heads, init.num_kv_heads)))
        yield Problem(("num_kv_heads",), init.num_kv_heads, f"must divide num_heads={heads}; nearest: {near}")
    longest = max(_longest(stage) for stage in recipe.stages)
    if longest > init.max_position_embeddings:
        yield Problem(
            ("max_position_embeddings",),
            init.max_position_embeddings,
            f"prompts and completions take up to {longest} tokens; raise it to that, or lower the rollout's limits",
        )


def _longest(stage: Stage) -> int:
    completion = stage.rollout.max_completion_tokens
    return stage.rollout.max_prompt_tokens + max(completion, stage.evaluation.max_completion_tokens or completion)


def _resources(recipe: Recipe) -> Iterator[Problem]:
    for loc, value, text in resource_faults(recipe.resources, recipe.stages[0].rollout.engine):
        yield Problem(("resources", *loc), value, text)


def _engines(recipe: Recipe) -> Iterator[Problem]:
    """The same engines serve every stage, so what they are started with must agree."""
    first = recipe.stages[0].rollout
    for index, stage in enumerate(recipe.stages):
        for name in ENGINE_KEYS:
            value = getattr(stage.rollout, name)
            if value != getattr(first, name):
                text = (
                    f"stage {recipe.stages[0].name} has {getattr(first, name)}, and one set of engines serves all "
                    "stages; set it once, at the top level"
                )
                yield Problem(("stages", index, "rollout", name), value, text)


def _stage(recipe: Recipe, stage: Stage) -> Iterator[Problem]:
    yield from _sources(stage)
    rewards = recipe.resources.rewards
    yield from _reward(stage, rewards.count * rewards.processes)
    yield from _reward_noise(stage)
    yield from _evaluation(stage)
    yield from _scheme(stage)
    if isinstance(stage, RlStage):
        yield from _rl(stage)
        names = [*table_names("rlvr.objectives.advantages", "ADVANTAGES"), GAE]
        yield from _slot(("objective", "advantage"), stage.objective.advantage, names)
        yield from _credit(stage)
    if stage.preset is not None and not isinstance(stage, RlStage):
        yield Problem(("preset",), stage.preset, "presets are methods of rl stages; remove it")
    if isinstance(stage, SftStage):
        yield from _sft(stage)
    if not isinstance(stage, EvalStage):
        yield from _learner(recipe, stage)


def _sources(stage: Stage) -> Iterator[Problem]:
    task = stage.task
    for name, source in (("train", task.train), ("test", task.test)):
        if source is not None:
            yield from (Problem(("task", name, *p.loc), p.value, p.text) for p in _source(source))
    if "{prompt}" not in task.template.text:
        yield Problem(
            ("task", "template", "text"), repr(task.template.text), "must hold {prompt}, where the question goes"
        )
    if task.template.system is not None and not task.template.chat:
        yield Problem(("task", "template", "system"), repr(task.template.system), "needs task.template.chat=true")
    if task.test is not None and task.test == task.train:
        yield Problem(("task", "test"), task.test.source, "is the training source itself; hold problems out")


def _source(source: Source) -> Iterator[Problem]:
    if isinstance(source, PROCEDURAL):
        fault = _generation_fault(source)
        if fault:
            yield Problem(("size",), source.size, fault)
    elif isinstance(source, JsonlSource):
        if not Path(source.path).is_file():
            yield Problem(("path",), source.path, "no such file")
        elif Path(source.path).suffix not in (".jsonl", ".parquet"):
            yield Problem(("path",), source.path, "expected a .jsonl or .parquet file")
    elif isinstance(source, CustomSource):
        if not is_path(source.function):
            yield Problem(("function",), source.function, "expected path/to/file.py:function")
        yield from _slot(("function",), source.function)
    elif isinstance(source, HubSource) and Path(source.dataset).is_absolute() and not Path(source.dataset).is_dir():
        yield Problem(("dataset",), source.dataset, "no such directory")


@cache
def _generation_fault(source: PROCEDURAL) -> str:
    """Why a procedural source cannot hold its `size`, found by drawing; empty if it can. Stages share their sources."""
    from rlvr.tasks.sources import load_rows

    try:
        load_rows(source)
    except RecipeError as error:
        return str(error).partition(": ")[2]
    return ""


def _slot(loc: tuple[str, ...], name: str, names: Sequence[str] | None = None) -> Iterator[Problem]:
    """A path must name a file; a name must be one of `names`, where they are known here."""
    if is_path(name) and not split_path(name)[0].is_file():
        yield Problem(loc, name, "no such file; give path/to/file.py:function")
    elif names is not None and (fault := check_name(name, names)):
        yield Problem(loc, name, fault)


def _reward(stage: Stage, processes: int) -> Iterator[Problem]:
    reward = stage.reward
    if reward.correct is not None and reward.correct not in reward.terms:
        yield Problem(("reward", "correct"), reward.correct, f"names no term; the terms are {', '.join(reward.terms)}")
    if reward.total is None and reward.table is None and all(term.weight == 0 for term in reward.terms.values()):
        yield Problem(("reward", "terms"), None, "every weight is 0, so every reward is 0; raise one")
    for name, term in reward.terms.items():
        yield from _slot(("reward", "terms", name, "fn"), term.fn)
        # The scoring package is optional here: the schema and its rules stand on their own.
        if importlib.util.find_spec("rlvr.scoring") and importlib.util.find_spec("rlvr.scoring.functions"):
            functions = importlib.import_module("rlvr.scoring.functions")
            if not is_path(term.fn) or split_path(term.fn)[0].is_file():
                for text in functions.signature_problems(term):
                    yield Problem(("reward", "terms", name), None, text)
    yield from (Problem(("reward", *loc), value, text) for loc, value, text in model_faults(reward))
    yield from _judges(reward, processes)
    yield from _reward_expression(stage)


def _reward_noise(stage: Stage) -> Iterator[Problem]:
    advantage = stage.objective.advantage if isinstance(stage, RlStage) else None
    for loc, value, text in noise_faults(stage.reward, advantage):
        yield Problem(("reward", *loc), value, text)


def _credit(stage: RlStage) -> Iterator[Problem]:
    if importlib.util.find_spec("rlvr.scoring"):
        kind_of = importlib.import_module("rlvr.scoring.functions").kind_of
        for loc, value, text in credit_faults(stage.objective, stage.reward, kind_of):
            yield Problem(("objective", "credit", *loc), value, text)


def _judges(reward: RewardConfig, processes: int) -> Iterator[Problem]:
    if importlib.util.find_spec("rlvr.scoring") and importlib.util.find_spec("rewards"):
        accepted = importlib.import_module("rlvr.scoring.functions").accepted_names
        faults = judge_faults(reward, processes, accepted)
        yield from (Problem(("reward", *loc), value, text) for loc, value, text in faults)


def _reward_expression(stage: Stage) -> Iterator[Problem]:
    """Faults of `total`, `define` and `table`: names, kinds and arity, found from the sources of the terms alone."""
    if not importlib.util.find_spec("rlvr.scoring"):
        return
    functions = importlib.import_module("rlvr.scoring.functions")
    program = importlib.import_module("rlvr.scoring.expression.program")
    reward = stage.reward
    kinds = {name: functions.kind_of(term) for name, term in reward.terms.items()}
    used = terms_read(stage.objective) if isinstance(stage, RlStage) else set()
    for fault in program.reward_faults(reward, kinds, used):
        yield Problem(("reward", *fault.key), None, fault.text)


def _scheme(stage: Stage) -> Iterator[Problem]:
    scheme, limit = stage.rollout.scheme, stage.rollout.max_completion_tokens
    if not isinstance(scheme, EnvironmentScheme):
        return
    at = ("rollout", "scheme")
    yield from _slot((*at, "environment"), scheme.environment, table_names("rlvr.rollout.environments", "ENVIRONMENTS"))
    for name in ("max_turn_tokens", "max_observation_tokens"):
        if getattr(scheme, name) > limit:
            text = f"the whole rollout has rollout.max_completion_tokens={limit}; use at most that, or raise it"
            yield Problem((*at, name), getattr(scheme, name), text)
    if not all(scheme.stop):
        yield Problem((*at, "stop"), list(scheme.stop), "an empty text is found everywhere; remove it")


def _evaluation(stage: Stage) -> Iterator[Problem]:
    evaluation = stage.evaluation
    asked = isinstance(stage, EvalStage) or evaluation.every > 0
    # The defaults ask for evaluation at both ends; without a test source they quietly mean none.
    if asked and stage.task.test is None:
        text = "needs task.test, held-out problems" if isinstance(stage, EvalStage) else "needs task.test; add it, or 0"
        loc = ("task", "test") if isinstance(stage, EvalStage) else ("evaluation", "every")
        yield Problem(loc, None if isinstance(stage, EvalStage) else evaluation.every, text)
    if asked and not evaluation.greedy and evaluation.num_samples == 0:
        yield Problem(("evaluation", "num_samples"), 0, "nothing is evaluated; set greedy or num_samples")
    too_large = [k for k in evaluation.k if k > evaluation.num_samples]
    if evaluation.num_samples and too_large:
        yield Problem(
            ("evaluation", "k"),
            list(evaluation.k),
            f"pass@{too_large[0]} needs evaluation.num_samples >= {too_large[0]}",
        )
    if any(k < 1 for k in evaluation.k):
        yield Problem(("evaluation", "k"), list(evaluation.k), "each k is at least 1")


def _sft(stage: SftStage) -> Iterator[Problem]:
    source = stage.task.train
    if not isinstance(source, PROCEDURAL) and source.columns.solution is None:
        yield Problem(
            ("task", "train", "columns", "solution"), "null", "an sft stage imitates demonstrations; name their column"
        )
    if stage.learner.epochs != 1:
        yield Problem(("learner", "epochs"), stage.learner.epochs, "an sft stage counts steps; use 1 and set steps")
    if stage.learner.mini_batches != 1:
        yield Problem(("learner", "mini_batches"), stage.learner.mini_batches, "an sft step is one update; use 1")


def _rl(stage: RlStage) -> Iterator[Problem]:
    rollout, learner = stage.rollout, stage.learner
    for name, neutral in (("top_p", 1.0), ("top_k", -1), ("min_p", 0.0)):
        value = getattr(rollout, name)
        if value != neutral:
            yield Problem(
                ("rollout", name),
                value,
                "the learner scores the whole vocabulary, so training on a cut support is biased; "
                f"use {neutral} (evaluation has its own)",
            )
    if rollout.group_size < 2 and stage.objective.advantage in GROUP_ADVANTAGES:
        yield Problem(
            ("rollout", "group_size"),
            rollout.group_size,
            f"advantage {stage.objective.advantage!r} compares the completions of a prompt and needs at least 2; "
            "raise it or choose advantage 'reinforce++'",
        )
    rollouts = rollout.prompts_per_step * rollout.group_size
    if rollouts % learner.mini_batches:
        near = " or ".join(map(str, divisors_near(rollouts, learner.mini_batches)))
        yield Problem(
            ("learner", "mini_batches"),
            learner.mini_batches,
            f"must divide the {rollouts} rollouts of a step "
            f"({rollout.prompts_per_step} prompts x {rollout.group_size}); nearest: {near}",
        )
    if isinstance(stage.task.train, PROCEDURAL | JsonlSource | HubSource):
        size = stage.task.train.size
        if size is not None and size < rollout.prompts_per_step:
            yield Problem(
                ("rollout", "prompts_per_step"),
                rollout.prompts_per_step,
                f"the source holds {size} prompts; use at most that",
            )
    for loc, value, text in (*advantage_faults(stage), *kl_faults(stage)):
        yield Problem(loc, value, text)
    yield from (Problem(("objective", *loc), value, text) for loc, value, text in objective_faults(stage))
    yield from (Problem(("rollout", *loc), value, text) for loc, value, text in rollout_faults(stage))


def _learner(recipe: Recipe, stage: SftStage | RlStage) -> Iterator[Problem]:
    learner = stage.learner
    for loc, value, text in memory_faults(learner, recipe.resources, recipe.model):
        yield Problem(("learner", *loc), value, text)
    for loc, value, text in lora_faults(stage, recipe.resources.transfer) if learner.lora is not None else ():
        yield Problem(("learner", "lora", *loc), value, text)
    optimizer = learner.optimizer
    for index, beta in enumerate(optimizer.betas):
        if not 0 <= beta < 1:
            yield Problem(("learner", "optimizer", "betas", index), beta, "must lie in [0, 1)")
    from rlvr.recipe.arithmetic import total_optimizer_steps

    total = total_optimizer_steps(stage)
    if optimizer.schedule != "constant" and optimizer.warmup_steps >= total:
        yield Problem(
            ("learner", "optimizer", "warmup_steps"),
            optimizer.warmup_steps,
            f"the stage has {total} optimizer steps, so the {optimizer.schedule} schedule never starts; use fewer",
        )
