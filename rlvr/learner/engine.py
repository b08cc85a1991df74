"""The DeepSpeed engine of one rank: the only file that imports deepspeed. Tested with deepspeed 0.19.

It owns the accumulation boundary. `update` takes all micro-batches of an optimizer step and ends in exactly one step;
nobody else calls backward or step. DeepSpeed averages gradients over ranks while the weights of the loss tokens already
hold the global denominator, hence the factor world_size in front of each loss.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.ops.adam import DeepSpeedCPUAdam
from torch import Tensor, nn
from torch.distributed import distributed_c10d

from rlvr.errors import RecipeError, RlvrError, RunStopped
from rlvr.learner.batch import MicroBatch
from rlvr.learner.lora import base_checksum, dropping
from rlvr.learner.losses import TensorMetrics
from rlvr.learner.optimizers import eight_bit_adamw
from rlvr.learner.schedule import lr_factor
from rlvr.metrics import Metrics, merge
from rlvr.recipe.schema import LearnerConfig

CHECKPOINT_TAG = "deepspeed"
MAX_BUCKET_ELEMENTS = 500_000_000  # DeepSpeed's default
STEP_COUNTERS = ("global_steps", "global_samples", "skipped_steps", "micro_steps")  # DeepSpeed's, in its checkpoints

LossFunction = Callable[[MicroBatch, Tensor, Tensor], tuple[Tensor, TensorMetrics]]


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer step. When it was not `applied`, nothing changed and nothing but that is known about it."""

    applied: bool
    lr: float
    grad_norm: float
    metrics: Metrics


def connect(rank: int, world_size: int, host: str, port: int, device: str, timeout_s: float) -> None:
    """Joins the process group of the learner's ranks; call once per process."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed calls collectives by their old names, at each use.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*is deprecated. Please use `torch.distributed")
    timeout = timedelta(seconds=timeout_s)
    # ZeRO clones the world group with torch's default timeout, not with the one given below.
    distributed_c10d.default_pg_timeout = timeout
    distributed_c10d.default_pg_nccl_timeout = timeout
    if device == "cpu":
        # Its shared-memory collectives are compiled at first use, for 24 s, and a stale lock hangs that for ever.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="gloo" if device == "cpu" else "nccl",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timeout,
        init_method=f"tcp://{host}:{port}",
        rank=rank,
        world_size=world_size,
    )


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips and refuses non-finite gradients itself, as ZeRO's optimizers do at stages 1 to 3.

    At stage 0 DeepSpeed clips with a norm that it does not report, and steps whatever comes out. The gradients are
    already reduced here, so every rank comes to the same verdict. `overflow` and `_global_grad_norm` are the attributes
    that the engine reads.
    """

    def __init__(self, params: Any, max_norm: float, **options: Any) -> None:
        super().__init__(params, **options)
        self.max_norm = max_norm
        self.overflow = False
        self._global_grad_norm = 0.0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in params])
        self._global_grad_norm = float(norm)
        self.overflow = not torch.isfinite(norm).item()
        if self.overflow:
            return
        torch.nn.utils.clip_grads_with_norm_(params, self.max_norm, norm)
        super().step(closure)


class TrainingEngine:
    """A policy, its optimizer and its schedule, sharded by ZeRO over the ranks."""

    def __init__(
        self,
        load: Callable[[], nn.Module],
        learner: LearnerConfig,
        total_steps: int,
        world_size: int,
        device: str,
        seed: int = 0,
    ) -> None:
        """`load` builds the policy; under ZeRO-3 its weights are partitioned while they are read. Collective.

        Parameters that need no gradient stay as they are; `seed` is what dropout of adapters draws from.
        """
        self.learner = learner
        self.seed = seed
        self.rank = dist.get_rank()
        self.total_steps = total_steps
        self.world_size = world_size
        self.num_steps = 0
        config = _config(learner, world_size, device)
        self.partitioned = learner.zero_stage == 3
        with _loading(config if self.partitioned else None):
            policy = load()
        config["zero_optimization"]["reduce_bucket_size"] = min(MAX_BUCKET_ELEMENTS, _num_parameters(policy))
        self.engine, *_ = deepspeed.initialize(
            model=policy, optimizer=_optimizer(policy, learner, device), config=config, dist_init_required=False
        )
        self.policy = self.engine.module
        self.device = self.engine.device
        self.base = base_checksum(self, self.rank) if learner.lora is not None else ""
        self._loss_factor = float(world_size)

    def forward(self, batch: MicroBatch, temperature: float, through_logits: bool = False) -> tuple[Tensor, Tensor]:
        """Logprobs and entropies [M] without gradient. Collective under ZeRO-3."""
        with torch.no_grad():
            return self.engine(batch, temperature, through_logits)

    def update(self, micro_batches: Sequence[MicroBatch], temperature: float, loss_of: LossFunction) -> StepResult:
        """Any number of backward passes, then one step. Collective; every rank gives the same number.

        A loss that is not finite on any rank, or a gradient norm that is not, is not stepped: weights, optimizer state
        and schedule stay bit for bit as they were, on all ranks, and the result says so.
        """
        optimizer = self.learner.optimizer
        lr = optimizer.lr * lr_factor(
            self.num_steps, optimizer.schedule, optimizer.warmup_steps, self.total_steps, optimizer.min_lr_ratio
        )
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr if self._loss_factor else 0.0
        parts: list[TensorMetrics] = []
        finite = torch.ones((), device=self.device)
        for position, batch in enumerate(micro_batches, start=1):
            with dropping(self.policy, self.learner.lora, (self.seed, self.num_steps, position, self.rank)):
                logprobs, entropies = self.engine(batch, temperature)
            loss, metrics = loss_of(batch, logprobs, entropies)
            parts.append(metrics)
            finite *= torch.isfinite(loss.detach())
            if position == len(micro_batches):
                dist.all_reduce(finite, op=dist.ReduceOp.MIN)
                if not finite.item():
                    # Every gradient becomes NaN, on every rank, and the optimizers discard the step and its buffers:
                    # the one way to do so that is the same at all ZeRO stages.
                    loss = logprobs.sum() * torch.nan
            self.engine.backward(loss * self._loss_factor, scale_wrt_gas=False)
        self.engine.step()
        applied = self.engine.was_step_applied()
        if applied:
            self.num_steps += 1
        return StepResult(applied, lr, float(self.engine.get_global_grad_norm()), to_host(parts) if applied else {})

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Updates in it go through every pass and leave weights, optimizer state and counts bit for bit as they were.

        Before the first step all gradients are 0 and so is the learning rate: the optimizer then steps on the spot, and
        makes its state, which is 0. Later its state would decay: then gradients are NaN and the step is discarded.
        """
        counters = {name: getattr(self.engine, name) for name in STEP_COUNTERS}
        num_steps, fresh = self.num_steps, self.num_steps == 0
        self._loss_factor = 0.0 if fresh else torch.nan
        try:
            yield
        finally:
            self._loss_factor = float(self.world_size)
            self.num_steps = num_steps
            for name, value in counters.items():
                setattr(self.engine, name, value)
            inner = getattr(self.engine.optimizer, "optimizer", self.engine.optimizer)
            for state in inner.state.values() if fresh else ():
                if "step" in state:
                    state["step"] *= 0

    @contextmanager
    def gathered(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Full values of partitioned parameters, for reading. Collective."""
        with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=None, enabled=self.partitioned):
            yield

    def shares(self) -> list[Tensor]:
        """What this rank holds of each parameter that trains: all of it, or its part under ZeRO-3."""
        trained = [p for p in self.policy.parameters() if p.requires_grad]
        return [p.ds_tensor.detach() if self.partitioned else p.detach() for p in trained]

    def snapshot(self) -> list[Tensor]:
        """A copy of `shares` in bfloat16, as an engine would be sent them."""
        return [share.to(torch.bfloat16, copy=True) for share in self.shares()]

    def weights_are_finite(self) -> bool:
        """Whether all weights that train are finite on every rank. Collective; reads each rank's own share."""
        finite = torch.ones((), device=self.device)
        for share in self.shares():
            finite *= torch.isfinite(share).all().to(self.device)
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        return bool(finite.item())

    def save(self, directory: Path) -> None:
        """Weights that train, optimizer state and step number, sharded as they are. Collective.

        Under LoRA the base is not saved but remembered by its checksum. Raises RunStopped when it is not what it was.
        """
        state: dict[str, Any] = {"num_steps": self.num_steps}
        if self.learner.lora is not None:
            state["base"] = self.base
            if base_checksum(self, self.rank) != self.base:
                raise RunStopped("learner: the frozen base has changed while adapters trained, so nothing was saved")
        self.engine.save_checkpoint(
            str(directory),
            tag=CHECKPOINT_TAG,
            client_state=state,
            save_latest=False,
            exclude_frozen_parameters=self.learner.lora is not None,
        )

    def load(self, directory: Path) -> None:
        """Takes up what `save` wrote with the same ZeRO stage and number of ranks. Collective."""
        path, state = self.engine.load_checkpoint(
            str(directory), tag=CHECKPOINT_TAG, load_module_strict=self.learner.lora is None
        )
        if path is None:
            raise RlvrError(f"learner checkpoint {directory}: nothing to load; was it saved with other resources?")
        if self.learner.lora is not None and state.get("base") != self.base:
            raise RlvrError(
                f"learner checkpoint {directory}: its adapter was trained on another base than the one loaded now; "
                "bring back the weights that the stage started from (the model, or the stage before it under stages/)"
            )
        self.num_steps = state["num_steps"]

    def close(self) -> None:
        """Releases the weights, so that another engine can take their place."""
        self.engine.destroy()
        del self.engine, self.policy
        gc.collect()


class FrozenEngine:
    """A reference policy: never trained; partitioned over the ranks where the trained one is, else whole on each."""

    def __init__(self, load: Callable[[], nn.Module], learner: LearnerConfig, world_size: int, device: str) -> None:
        self.engine = None
        self.device = torch.device("cuda" if device == "cuda" else "cpu")
        self.visits = learner.offload_reference and learner.zero_stage != 3
        self._visiting = False
        config = _config(learner, world_size, device, frozen=True)
        with _loading(config if learner.zero_stage == 3 else None):
            self.policy = load()
        self.policy.requires_grad_(False)
        if learner.zero_stage == 3:
            self.engine, *_ = deepspeed.initialize(model=self.policy, config=config, dist_init_required=False)
        elif not self.visits:
            self.policy.to(self.device)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While it is open, weights that live on the host are on the device; a pass outside takes them there itself."""
        if not self.visits or self._visiting:
            yield
            return
        home = [(parameter, parameter.data) for parameter in self.policy.parameters()]
        for tensor in (*(parameter for parameter, _ in home), *self.policy.buffers()):
            tensor.data = tensor.data.to(self.device)
        self._visiting = True
        try:
            yield
        finally:
            self._visiting = False
            for parameter, data in home:
                parameter.data = data

    def forward(self, batch: MicroBatch, temperature: float, through_logits: bool = False) -> tuple[Tensor, Tensor]:
        """Logprobs and entropies [M]. Collective under ZeRO-3."""
        with torch.no_grad(), self.visit():
            return (self.engine or self.policy)(batch, temperature, through_logits)

    def states(self, batch: MicroBatch) -> Tensor:
        """Last hidden states [M, d] at the loss positions: what tokens are predicted from. Collective under ZeRO-3."""
        with torch.no_grad(), self.visit():
            return (self.engine or self.policy)(batch, 1.0, False, True)[0]

    def close(self) -> None:
        if self.engine is not None:
            self.engine.destroy()
        del self.engine, self.policy
        gc.collect()


def to_host(parts: Sequence[TensorMetrics]) -> Metrics:
    """Merged (sum, count) metrics; one transfer from the device for all of them."""
    items = [(name, total, count) for part in parts for name, (total, count) in part.items()]
    if not items:
        return {}
    totals = torch.stack([total.detach().double() for _, total, _ in items]).tolist()
    return merge({name: (total, count)} for (name, _, count), total in zip(items, totals, strict=True))


def _config(learner: LearnerConfig, world_size: int, device: str, frozen: bool = False) -> dict[str, Any]:
    """DeepSpeed's configuration. `managed_gradient_accumulation` false: only `step` ends an accumulation."""
    stage = learner.zero_stage
    if learner.offload != "none" and (stage == 0 or (learner.offload == "parameters" and stage != 3)):
        raise RecipeError(
            f"learner.offload={learner.offload!r} with learner.zero_stage={stage}: offloading the optimizer needs "
            "stage 1, 2 or 3, offloading parameters needs stage 3"
        )
    zero: dict[str, Any] = {"stage": stage}
    if learner.offload != "none" and not frozen:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device == "cuda"}
    if learner.offload == "parameters" or (frozen and stage == 3 and learner.offload_reference):
        zero["offload_param"] = {"device": "cpu", "pin_memory": device == "cuda"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "managed_gradient_accumulation": False,
        "zero_optimization": zero,
        # Compiling DeepSpeedCPUAdam takes 38 s, and on a CPU every optimizer is one.
        "zero_force_ds_cpu_optimizer": device == "cuda",
        # Those of bitsandbytes are in no list of DeepSpeed's; tests/learner/test_optimizers.py tests them with it.
        "zero_allow_untested_optimizer": learner.optimizer.kind != "adamw",
        "bf16": {"enabled": learner.dtype == "bfloat16"},
        "steps_per_print": 1 << 60,
    }
    if frozen:
        return config
    # DeepSpeed clips to 1.0 when nothing is said; at stage 0 in float32 ClippedAdamW does it.
    config["gradient_clipping"] = learner.optimizer.max_grad_norm if stage or learner.dtype == "bfloat16" else 0.0
    if stage >= 2 and learner.dtype == "bfloat16":
        # Micro-batches add up in float32: in bfloat16 the eighth addend already loses three of its eight bits.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def _optimizer(policy: nn.Module, learner: LearnerConfig, device: str) -> torch.optim.Optimizer:
    optimizer = learner.optimizer
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    options: dict[str, Any] = {
        "lr": optimizer.lr,
        "betas": optimizer.betas,
        "eps": optimizer.eps,
        "weight_decay": optimizer.weight_decay,
    }
    if optimizer.kind != "adamw":
        return eight_bit_adamw(trained, optimizer.kind, device, options)
    if learner.offload != "none" and device == "cuda":
        return DeepSpeedCPUAdam(trained, adamw_mode=True, **options)
    if learner.zero_stage == 0 and learner.dtype == "float32":
        return ClippedAdamW(trained, optimizer.max_grad_norm, **options)
    return torch.optim.AdamW(trained, **options)


@contextmanager
def _loading(config: dict[str, Any] | None) -> Iterator[None]:
    """While it is open, transformers partitions what it loads as ZeRO-3 wants it; None: it loads as usual."""
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    # transformers keeps a weak reference only, so the name must stay alive.
    keep = HfDeepSpeedConfig(config) if config is not None else None
    try:
        yield
    finally:
        del keep
        unset_hf_deepspeed_config()


def _num_parameters(policy: nn.Module) -> int:
    """Of those that train."""
    trained = (parameter for parameter in policy.parameters() if parameter.requires_grad)
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trained)
