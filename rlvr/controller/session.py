"""The running stack of one run: Ray, learner ranks, engines, reward workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import ray

from rlvr.cluster.connection import start_ray
from rlvr.cluster.placement import Placement, check_local, plan_placement
from rlvr.cluster.roster import ROSTER
from rlvr.cluster.shared import check_shared, local_files
from rlvr.controller.critic import Critic
from rlvr.controller.rundir import RunDir
from rlvr.controller.side_models import SideModels
from rlvr.learner.group import LearnerGroup
from rlvr.models.build import materialize
from rlvr.models.tokenizer import load_tokenizer
from rlvr.recipe.arithmetic import context_length, side_processes
from rlvr.recipe.schedule import annealed
from rlvr.recipe.schema import EnvironmentScheme, EvalStage, LoraConfig, Recipe, RewardConfig, RlStage, Stage
from rlvr.recipe.side_models import VllmModel
from rlvr.records import SamplingParams
from rlvr.rollout.engine import EngineSpec
from rlvr.rollout.pool import EngineDied, RolloutPool
from rlvr.rollout.trajectory import EnvironmentSpec
from rlvr.scoring.hosted import HostedModels
from rlvr.scoring.service import RewardService
from rlvr.tasks.alphabet import characters_of
from rlvr.transfer.push import build_pusher, transport_of

MAX_DEFAULT_KV_CACHE_BYTES = 4 << 30


class Session:
    """Owns every process of a run; closing it leaves none behind.

    Engines start in the background: a cold start trains meanwhile, and the first use of `rollouts` waits for them.
    """

    def __init__(self, recipe: Recipe, run: RunDir, needs_learner: bool = True, needs_engines: bool = True) -> None:
        self.recipe = recipe
        self.run = run
        self.needs_learner = needs_learner
        self.needs_engines = needs_engines
        self.version = 0
        self._rewards: tuple[RewardConfig, RewardService] | None = None
        self._hosted: HostedModels | None = None
        self._side_models: tuple[str, SideModels] | None = None
        self._critic: tuple[str, Critic] | None = None
        self._engines_ready = False
        self._owns_ray = False
        self.on_wait: Callable[[], None] = lambda: None  # called while engines generate; may raise to end that

    def __enter__(self) -> Session:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        recipe, resources = self.recipe, self.recipe.resources
        ROSTER.limit_s, ROSTER.where = resources.liveness_timeout_s, ""
        side = side_processes(recipe.stages)
        if resources.ray_address is None and not ray.is_initialized():
            check_local(resources, side)
        self._owns_ray = start_ray(resources.ray_address, resources)
        self.placement: Placement = plan_placement(resources, side)
        self.model_dir = materialize(recipe.model, self.run.model, recipe.seed, characters_of(recipe))
        check_shared([self.run.path], local_files(self.model_dir), self.placement.nodes)
        self.tokenizer = load_tokenizer(self.model_dir, recipe.model)
        self.stop_token_ids = stop_token_ids(self.model_dir, self.tokenizer, recipe.model.trust_remote_code)
        if self.needs_engines:
            self.transport = transport_of(resources, recipe.stages[0].rollout.engine, self.placement.device)
            if sent_adapters(recipe.stages):
                # vLLM's own transfer knows whole models only; an adapter is small, and its base travels once a stage.
                self.transport = "host"
            spec = engine_spec(recipe, self.model_dir, self.placement.device, self.transport)
            count, timeout_s = resources.engines.count, resources.step_timeout_s
            # NCCL and IPC tie engines and learner together for the run: there the death of one is the end of it.
            restarts = resources.engines.restarts if self.transport == "host" and not spec.sleep_mode else 0
            self._pool = RolloutPool(
                spec, count, timeout_s, self.placement.engine_options, restarts, self.placement.engine_environments
            )
            self._pool.restore = self._restore
            self._pool.check_stop = lambda: self.on_wait()
        if self.needs_learner:
            if self.needs_engines and self.placement.device == "cuda" and resources.placement == "colocated":
                # An engine claims its share of the GPU at start; the learner comes once it sleeps.
                self.rollouts.on_all("sleep")
            self.learner = LearnerGroup(resources, self.placement.device, self.placement.learner_options)
            self.learner.start()
            if self.needs_engines:
                cap_bytes = resources.transfer_bucket_mb << 20
                self.pusher = build_pusher(self.transport, self.learner, self._pool, cap_bytes)

    @property
    def rollouts(self) -> RolloutPool:
        """The engines, once each has decoded its warm-up."""
        if not self._engines_ready:
            self._pool.start(self.recipe.resources.start_timeout_s)
            self._engines_ready = True
        return self._pool

    def rewards(self, stage: Stage) -> RewardService:
        """The reward workers of a stage; kept over stages that score alike."""
        if self._rewards is None or self._rewards[0] != stage.reward:
            if self._rewards is not None:
                self._rewards[1].close()
            resources = self.recipe.resources
            served = self._served(stage.reward)
            run_here = stage.reward.model_copy(update={"terms": stage.reward.process_terms})
            service = RewardService(run_here, resources.rewards, resources.step_timeout_s, served)
            self._rewards = (stage.reward, service)
        return self._rewards[1]

    def _served(self, reward: RewardConfig) -> dict[str, dict[str, str]]:
        """Where the judges are that the run serves itself; kept over stages that ask the same ones."""
        wanted = {name: model for name, model in reward.models.items() if isinstance(model, VllmModel)}
        if self._hosted is not None and self._hosted.models != wanted:
            self._hosted.close()
            self._hosted = None
        if wanted and self._hosted is None:
            timeout_s = self.recipe.resources.start_timeout_s
            self._hosted = HostedModels(
                wanted, self.placement.device, self.run.path / "models", timeout_s, self.recipe.resources.ports
            )
        return self._hosted.served if self._hosted else {}

    def side_models(self, stage: Stage, model_dir: str | None = None) -> SideModels:
        """The models beside the policy of a stage; those that learn need the weights that the stage starts from."""
        if self._side_models is None or self._side_models[0] != stage.name:
            if self._side_models is not None:
                self._side_models[1].close()
                self._side_models = None
            resources, seed = self.recipe.resources, self.recipe.seed
            self._side_models = (stage.name, SideModels(stage, resources, model_dir, self.tokenizer, seed))
        return self._side_models[1]

    def critic(self, stage: Stage, model_dir: str | None = None) -> Critic | None:
        """The critic of a stage, if it has one; built at the first call, which needs the stage's starting weights."""
        if self._critic is not None and self._critic[0] != stage.name:
            self._critic[1].close()
            self._critic = None
        if not isinstance(stage, RlStage) or stage.objective.critic is None:
            return None
        if self._critic is None:
            assert model_dir is not None, f"the critic of stage {stage.name} has not been built"
            before = stage.objective.critic.from_stage
            earlier = str(self.run.critic_export(before)) if before else None
            critic = Critic(stage, self.recipe.resources, model_dir, self.tokenizer, self.recipe.seed, earlier)
            self._critic = (stage.name, critic)
        return self._critic[1]

    def sampling(self, stage: Stage, stage_step: int = 0) -> SamplingParams:
        """What training rollouts of a step of a stage are sampled with; the learner scores at the same temperature."""
        config = stage.rollout
        return SamplingParams(
            temperature=annealed(config.temperature, config.temperature_schedule, stage_step),
            max_completion_tokens=config.window_tokens or config.max_completion_tokens,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            stop_token_ids=self.stop_token_ids,
        )

    def environment(self, stage: Stage) -> EnvironmentSpec | None:
        """What the rollouts of a stage are played in, evaluation's too; None for single turns."""
        scheme = stage.rollout.scheme
        if not isinstance(scheme, EnvironmentScheme):
            return None
        return EnvironmentSpec(
            scheme, stage.task.template, stage.rollout.max_prompt_tokens, self.recipe.model.chat_template
        )

    def decode(self, token_ids: list[int]) -> str:
        """The text of a completion, as the engines decode it."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def push(self) -> int:
        """Wakes the engines and sends them the learner's weights; the new version.

        An engine that is lost on the way is replaced, and the update begins anew.
        """
        self.version += 1
        self._wake("weights")
        while True:
            try:
                self.pusher.push(self.version)
                break
            except EngineDied as lost:
                self.rollouts.replace(lost, restore=False)
        # Only now: while weights travel, the learner's buckets need the room.
        self._wake("kv_cache")
        return self.version

    def _wake(self, part: str) -> None:
        if self.rollouts.spec.sleep_mode:
            self.learner.release_cache()
            self.rollouts.on_all("wake", part)

    def _restore(self, index: int) -> None:
        """Gives a new engine the weights that the others hold: outside an update those are the learner's."""
        if self.version:
            self.pusher.push(self.version, only=[index])

    def close(self) -> None:
        """Ends every actor and, if this run started it, Ray itself."""
        for part in (
            getattr(self, "learner", None),
            self._rewards and self._rewards[1],
            self._side_models and self._side_models[1],
            self._critic and self._critic[1],
            self._hosted,
            getattr(self, "_pool", None),
        ):
            if part is not None:
                try:
                    part.close()
                except Exception as error:  # noqa: BLE001  # the remaining parts must be closed all the same
                    logging.getLogger(__name__).warning("closing %s: %r", type(part).__name__, error)
        ROSTER.stop()
        placement: Placement | None = getattr(self, "placement", None)
        if placement is not None and not self._owns_ray:
            placement.release()
        if self._owns_ray:
            ray.shutdown()
        ROSTER.sweep()


def engine_spec(recipe: Recipe, model_dir: str, device: str, transport: str) -> EngineSpec:
    """One engine that serves every stage: the longest context, the widest batch."""
    stages = recipe.stages
    first = stages[0].rollout
    adapters = sent_adapters(stages)
    names = {name for lora in adapters for name in lora.target_modules if not isinstance(lora.target_modules, str)}
    anywhere = any(isinstance(lora.target_modules, str) for lora in adapters)
    length = max(context_length(stage) for stage in stages)
    concurrent = max(stage.rollout.max_concurrent_rollouts for stage in stages)
    explicit = first.kv_cache_gb
    kv_cache = (
        int(explicit * (1 << 30)) if explicit else _kv_cache_bytes(model_dir, recipe, first.dtype, length, concurrent)
    )
    return EngineSpec(
        kind=first.engine,
        model_dir=model_dir,
        dtype=first.dtype,
        device=device,
        context_length=length,
        max_concurrent=concurrent,
        threads=recipe.resources.engines.threads,
        tensor_parallel=recipe.resources.engines.tensor_parallel,
        kv_cache_bytes=kv_cache if device == "cpu" else None,
        gpu_memory_utilization=first.gpu_memory_utilization,
        enforce_eager=first.enforce_eager,
        prefix_caching=first.prefix_caching,
        sleep_mode=device == "cuda" and recipe.resources.placement == "colocated",
        transfer_backend=None if transport == "host" else transport,
        trust_remote_code=recipe.model.trust_remote_code,
        lora_rank=max((lora.rank for lora in adapters), default=0),
        lora_modules=None if anywhere or not names else tuple(sorted(names)),
    )


def sent_adapters(stages: Sequence[Stage]) -> list[LoraConfig]:
    """The LoRA sections of the stages whose adapters travel alone."""
    trained = [stage.learner.lora for stage in stages if not isinstance(stage, EvalStage)]
    return [lora for lora in trained if lora is not None and lora.transfer == "adapter"]


def stop_token_ids(model_dir: str, tokenizer: Any, trust_remote_code: bool = False) -> tuple[int, ...]:
    """The tokenizer's eos with those of the model's generation config: all that ends a completion."""
    from transformers import GenerationConfig

    ids = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    try:
        declared = GenerationConfig.from_pretrained(model_dir).eos_token_id
    except OSError:
        declared = None
    ids |= set(declared) if isinstance(declared, list) else {declared} if declared is not None else set()
    return tuple(sorted(ids))


def _kv_cache_bytes(model_dir: str, recipe: Recipe, dtype: str, length: int, concurrent: int) -> int:
    """Room for every concurrent sequence at full length, up to 4 GiB."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        model_dir, revision=recipe.model.revision, trust_remote_code=recipe.model.trust_remote_code
    ).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * head_size * (4 if dtype == "float32" else 2)
    blocks = -(-length // 32) + 1
    return max(64 << 20, min(MAX_DEFAULT_KV_CACHE_BYTES, per_token * blocks * 32 * concurrent))
