"""One learner rank: a policy, an optional reference, and the passes that a batch takes through them.

A plain class; `rlvr.learner.group` turns it into a Ray actor. Every method but the first seven is collective: all ranks
are called with their own shard of the same plan.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from rlvr.cluster.environment import Ports, become_rank, free_port, node_address
from rlvr.cluster.memory import PeakMemory, peak_memory
from rlvr.errors import RecipeError
from rlvr.learner.auxiliary import TEACHER, prepare
from rlvr.learner.batch import MicroBatch, Shard, collate
from rlvr.learner.collectives import gathered, set_data_group
from rlvr.learner.covariance import set_selected
from rlvr.learner.diagnostics import StepMeter, gradient_norms, unchanged
from rlvr.learner.examples import example_loss, examples_of
from rlvr.learner.kl_term import kl_values, set_reference
from rlvr.learner.linearised import is_group_loss, linear_form, linearise
from rlvr.learner.losses import TensorMetrics, critic_loss, mismatch_metrics, old_logprobs_of, rl_loss, sft_loss
from rlvr.learner.prepass import fill
from rlvr.learner.sequence_parallel import sequence_groups
from rlvr.learner.token_scale import set_token_scale
from rlvr.learner.worst_case import KNOBS, shape_of
from rlvr.metrics import Metrics, merge
from rlvr.recipe.kl import KlConfig
from rlvr.recipe.schema import LearnerConfig, ObjectiveConfig
from rlvr.transfer.buckets import Bucket, Form

if TYPE_CHECKING:
    from rlvr.learner.anchor import MovingAnchor
    from rlvr.learner.engine import FrozenEngine, LossFunction, TrainingEngine
    from rlvr.learner.reference import Reference
    from rlvr.transfer.cuda import CudaSender, SenderSpec


class LearnerWorker:
    """One rank of the learner."""

    def __init__(self, rank: int, world_size: int, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.engine: TrainingEngine | None = None
        self.reference: Reference | None = None
        self.anchor: MovingAnchor | None = None
        self.frozen: FrozenEngine | None = None
        self.teacher: FrozenEngine | None = None
        self.sender: CudaSender | None = None

    def ping(self) -> int:
        """The process id; answers from a thread of its own while another method runs."""
        return os.getpid()

    def pulse(self) -> float:
        """That this process answers; how long a step may take is the driver's to judge."""
        return 0.0

    def address(self) -> str:
        """The address that other nodes reach this rank at."""
        return node_address()

    def rendezvous(self, host: str, timeout_s: float, ports: Ports | None) -> int:
        """Opens the store that the ranks meet at; its port, which is held from here on."""
        from rlvr.learner.rendezvous import open_store

        self.store = open_store(host, self.world_size, timeout_s, ports)
        return int(self.store.port)

    def transfer_endpoint(self, ports: Ports | None) -> tuple[str, int]:
        """(address, port) at which this rank opens the transfer to engines, on whatever node they are."""
        return node_address(), free_port(ports)

    def gpu_peak(self) -> PeakMemory:
        """GPU memory of this rank at most since it was last asked."""
        return peak_memory(None)

    def connect(self, host: str, port: int, timeout_s: float, over_nodes: bool, interface: str | None) -> None:
        """Joins the other ranks; a collective that takes longer than the timeout (seconds) fails."""
        become_rank(self.rank, self.world_size, over_nodes, interface)
        from rlvr.learner import engine

        engine.connect(self.rank, self.world_size, host, port, self.device, timeout_s)

    def release_cache(self) -> None:
        """Gives GPU memory that nothing holds back to the device, where engines on the same GPU wake up next."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def setup(
        self,
        model_dir: str,
        learner: LearnerConfig,
        total_optimizer_steps: int,
        seed: int,
        reference: bool,
        trust_remote_code: bool,
        head: str = "policy",
        trained: bool = True,
    ) -> int:
        """Loads the policy, and a frozen copy of it if asked; replaces what an earlier call loaded. Hidden size.

        Under LoRA the reference is the policy without its adapters, and no copy.
        `head` is policy, or scalar for a model that answers with a number per token instead of a logprob. A model that
        is not `trained` has no optimizer and answers `token_outputs` only.
        """
        from rlvr.learner.engine import FrozenEngine, TrainingEngine
        from rlvr.learner.lora import adapted
        from rlvr.learner.policy import check_probe, load_policy, probe_batches
        from rlvr.learner.reference import BaseReference
        from rlvr.learner.scalar import load_scalar

        self._release()
        set_data_group(sequence_groups(learner.sequence_parallel)[1])
        # Nothing draws random numbers while training; a model's remote code might at loading.
        torch.manual_seed(seed)
        self.model_dir, self.learner, self.trust_remote_code = model_dir, learner, trust_remote_code
        load: Callable[[], nn.Module] = partial(
            load_scalar if head == "scalar" else load_policy, model_dir, learner, trust_remote_code
        )
        if trained:
            trainable = load if learner.lora is None else partial(adapted, load, learner.lora, seed, model_dir)
            self.engine = TrainingEngine(trainable, learner, total_optimizer_steps, self.world_size, self.device, seed)
        else:
            self.frozen = FrozenEngine(load, learner, self.world_size, self.device)
        if reference and self.engine is not None and learner.lora is not None:
            self.reference = BaseReference(self.engine)
        elif reference:
            self.reference = FrozenEngine(load, learner, self.world_size, self.device)
        self.weights_checked = False
        scorer: Any = self._scorer()
        config: Any = scorer.policy.model.config
        packed, alone = probe_batches(config.vocab_size, scorer.device)
        ours, _ = scorer.forward(packed, 1.0)
        own, _ = scorer.forward(alone, 1.0, through_logits=True)
        check_probe(ours, own, model_dir, learner)
        return int(config.hidden_size)

    def load_teacher(self, model_dir: str) -> None:
        """Loads a frozen model that the policy learns from; RecipeError where its tokens are not the policy's."""
        from rlvr.learner.engine import FrozenEngine
        from rlvr.learner.policy import check_same_tokens, load_policy

        check_same_tokens(self.model_dir, model_dir, self.trust_remote_code)
        load = partial(load_policy, model_dir, self.learner, self.trust_remote_code)
        self.teacher = FrozenEngine(load, self.learner, self.world_size, self.device)

    def train_rl(
        self,
        shard: Shard,
        objective: ObjectiveConfig,
        temperature: float,
        stage_step: int = 0,
        update_sparsity: bool = False,
    ) -> Metrics:
        """All epochs and mini-batches over the shard; this rank's part of the metrics."""
        from rlvr.learner.engine import to_host

        engine, epochs = self._engine(), self.learner.epochs
        steps = self._collate(shard)
        parts: list[Metrics] = []
        measured = fill(engine, self.reference, _flat(steps), objective, temperature, epochs * len(steps))
        if measured:
            known = [(b, b.old_logprobs) for b in _flat(steps) if b.old_logprobs is not None]
            parts.append(to_host([mismatch_metrics(batch, logprobs) for batch, logprobs in known]))
        if self.teacher is not None:
            with self.teacher.visit():
                for batch in _flat(steps):
                    batch.columns[TEACHER], _ = self.teacher.forward(batch, temperature)
        for step in steps:
            set_token_scale(step, objective, stage_step)
            set_selected(step, objective.policy_loss)
            prepare(step, objective)
        meter = StepMeter(with_ratios=epochs * len(steps) > 1 or objective.old_policy == "engine")

        def loss_of(
            batch: MicroBatch, logprobs: torch.Tensor, entropies: torch.Tensor
        ) -> tuple[torch.Tensor, TensorMetrics]:
            loss, metrics = rl_loss(batch, logprobs, entropies, objective, stage_step)
            meter.add(batch, logprobs, old_logprobs_of(batch, logprobs, objective))
            return loss, metrics if measured else metrics | mismatch_metrics(batch, logprobs)

        for _ in range(epochs):
            for step in steps:
                constant, preferred = self._linearise(step, shard, objective, temperature)
                held = engine.snapshot() if update_sparsity else None
                parts += [self._step(step, temperature, loss_of, constant), self._measure(meter, held), preferred]
                # Without a forward pass of its own the mismatch is measured in the first step, before weights change.
                measured = True
        return merge(parts)

    def _measure(self, meter: StepMeter, held: list[torch.Tensor] | None) -> Metrics:
        """Diagnostics of the step that was just made; what holds for all ranks alike is reported by rank 0 only."""
        engine = self._engine()
        metrics = meter.finish(engine.device)
        meter.ratios.clear()
        meter.moments.clear()
        metrics = metrics if self.rank == 0 else {}
        if held is not None and (self.rank == 0 or engine.partitioned):
            metrics["update_sparsity"] = unchanged(held, engine.shares())
        return metrics

    def _linearise(
        self, step: list[MicroBatch], shard: Shard, objective: ObjectiveConfig, temperature: float
    ) -> tuple[float, Metrics]:
        """Prepares a loss of whole groups for one optimizer step: what its linear form lacks to be it, its metrics."""
        if not is_group_loss(objective.policy_loss):
            return 0.0, {}
        logprobs = [self._engine().forward(batch, temperature)[0] for batch in step]
        loss, ordered, num_pairs = linearise(step, logprobs, shard, objective.policy_loss)
        linear = torch.stack([linear_form(batch, current) for batch, current in zip(step, logprobs, strict=True)])
        # Every rank has seen all pairs; one of them reports.
        counted = num_pairs and self.rank == 0
        metrics: Metrics = {"preference/accuracy": (float(ordered), float(num_pairs))} if counted else {}
        return float(loss - gathered(linear.double()).sum()), metrics

    def train_sft(self, shard: Shard) -> Metrics:
        """One optimizer step per mini-batch of the plan on the negative log-likelihood of the loss tokens."""
        return merge(self._step(step, 1.0, sft_loss) for step in self._collate(shard))

    def train_values(self, shard: Shard, clip: float | None) -> Metrics:
        """All epochs and mini-batches of a scalar model's regression on the column `returns`."""

        def loss_of(batch: MicroBatch, values: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, TensorMetrics]:
            return critic_loss(batch, values, clip)

        steps = self._collate(shard)
        return merge(self._step(step, 1.0, loss_of) for _ in range(self.learner.epochs) for step in steps)

    def train_examples(self, shard: Shard, loss: str) -> Metrics:
        """One optimizer step per mini-batch on a loss of examples (`rlvr.learner.examples`)."""
        steps = self._collate(shard)
        for batch in _flat(steps):
            self._refer(batch)

        def loss_of(batch: MicroBatch, outputs: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, TensorMetrics]:
            outputs = outputs if batch.ref_logprobs is None else outputs - batch.ref_logprobs
            return example_loss(batch, outputs, examples_of(shard, batch), loss)

        return merge(self._step(step, 1.0, loss_of) for step in steps)

    def try_worst_case(self, method: str, shard: Shard, *arguments: Any) -> PeakMemory:
        """What this process holds at most while a training method takes the shard; nothing is changed by it.

        RecipeError when memory does not suffice.
        """
        peak_memory(os.getpid())
        try:
            with self._engine().trial():
                getattr(self, method)(shard, *arguments)
        except (MemoryError, RuntimeError) as error:
            # torch says it with an error of its own on a GPU and with a plain RuntimeError on a CPU.
            if "memory" not in str(error) and not isinstance(error, MemoryError):
                raise
            raise RecipeError(
                f"learner: {shape_of(shard)}, which this stage may bring, does not fit into the memory of rank "
                f"{self.rank} ({str(error).splitlines()[0]}); {KNOBS}"
            ) from error
        peak = peak_memory(os.getpid())
        self.release_cache()
        return peak

    def representations(self, shard: Shard) -> list[tuple[int, np.ndarray]]:
        """(sequence of the shard, sum of the reference's last hidden states over its loss tokens [d])."""
        assert self.reference is not None, "setup(reference=True) is needed for representations"
        found: list[tuple[int, np.ndarray]] = []
        for batch in _flat(self._collate(shard)):
            states = self.reference.states(batch).float()
            if batch.num_loss_tokens:
                sums = (part.sum(0).cpu().numpy() for part in states.split(batch.row_tokens))
                found += zip(batch.rows, sums, strict=True)
        return found

    def token_outputs(self, shard: Shard) -> list[tuple[int, np.ndarray]]:
        """(sequence of the shard, its outputs at its loss tokens): scores, or logprobs less those of the reference."""
        found: list[tuple[int, np.ndarray]] = []
        for batch in _flat(self._collate(shard)):
            outputs, _ = self._scorer().forward(batch, 1.0)
            self._refer(batch)
            if batch.ref_logprobs is not None:
                outputs = outputs - batch.ref_logprobs
            if batch.num_loss_tokens:
                found += zip(batch.rows, (part.cpu().numpy() for part in outputs.split(batch.row_tokens)), strict=True)
        return found

    def token_kl(self, shard: Shard, temperature: float, config: KlConfig) -> list[tuple[int, np.ndarray]]:
        """(sequence of the shard, KL estimate at each of its loss tokens in nats), policy against reference."""
        assert self.reference is not None, "setup(reference=True) is needed for a KL term"
        found: list[tuple[int, np.ndarray]] = []
        for batch in _flat(self._collate(shard)):
            logprobs, entropies = self._engine().forward(batch, temperature)
            set_reference(batch, self.reference, config, temperature, entropies)
            kl = kl_values(batch, logprobs, config).double()
            if batch.num_loss_tokens:
                found += zip(batch.rows, (part.cpu().numpy() for part in kl.split(batch.row_tokens)), strict=True)
        return found

    def parameter_specs(self, form: Form = "weights") -> list[tuple[str, tuple[int, ...]]]:
        """Names and full shapes of what leaves in a form; tied weights appear once."""
        from rlvr.learner import weights

        return weights.parameter_specs(self._engine(), form)

    def gather_bucket(self, bucket: Bucket) -> tuple[np.ndarray, dict[str, int]]:
        """The bucket's bytes and checksums on rank 0. RunStopped when any weight of the model is not finite."""
        from rlvr.learner import weights

        if not self.weights_checked:
            weights.require_finite(self._engine(), "sent to the engines")
            self.weights_checked = True
        return weights.gather_bucket(self._engine(), bucket, self.rank)

    def send_weights(self, spec: SenderSpec) -> dict[str, int]:
        """Sends all weights over NCCL or CUDA IPC; checksums on rank 0. RunStopped when any weight is not finite."""
        from rlvr.learner import weights
        from rlvr.transfer.cuda import CudaSender

        weights.require_finite(self._engine(), "sent to the engines")
        if self.sender is None:
            self.sender = CudaSender(self._engine(), spec, self.rank)
        return self.sender.send()

    def move_anchor(self, decay: float) -> None:
        """reference = decay * reference + (1 - decay) * policy, from here on."""
        self._anchor().move(decay)

    def save(self, directory: str) -> None:
        """Sharded training state, with the reference where that has moved. RunStopped when weights are not finite."""
        from rlvr.learner import weights

        weights.require_finite(self._engine(), "saved")
        self._engine().save(Path(directory))
        if self.anchor is not None and (self.learner.zero_stage == 3 or self.rank == 0):
            self.anchor.save(self._anchor_file(directory))

    def load(self, directory: str) -> None:
        """Takes up a saved training state; a reference that had not moved stays what `setup` loaded."""
        self.weights_checked = False
        self._engine().load(Path(directory))
        if self.reference is not None and self._anchor_file(directory).is_file():
            self._anchor().load(self._anchor_file(directory))

    def export(self, directory: str, form: Form = "weights") -> None:
        """Hugging Face directory of a model or adapter (peft), by rank 0. RunStopped for weights not finite."""
        from rlvr.learner import weights

        weights.require_finite(self._engine(), "exported")
        weights.export(self._engine(), self.model_dir, Path(directory), self.rank, self.trust_remote_code, form)

    def _step(
        self, step: list[MicroBatch], temperature: float, loss_of: LossFunction, constant: float = 0.0
    ) -> Metrics:
        """One optimizer step; what holds for all ranks alike is reported by rank 0 only.

        `constant` is what the losses of all ranks and micro-batches lack to be the loss.
        """
        self.weights_checked = False
        result = self._engine().update(step, temperature, loss_of)
        metrics = dict(result.metrics)
        norms = gradient_norms(metrics, self._engine().device)
        if self.rank:
            return metrics
        metrics["skipped_steps"] = (float(not result.applied), 1.0)
        metrics["micro_batches"] = (float(len(step)), 1.0)
        if result.applied:
            for name, (total, _) in result.metrics.items():
                if name in ("loss", "policy_loss"):
                    metrics[name] = (total + constant, 1.0)
                elif name.startswith("auxiliary/"):
                    metrics[name] = (total, 1.0)
            metrics |= norms | {"grad_norm": (result.grad_norm, 1.0), "lr": (result.lr, 1.0)}
        return metrics

    def _refer(self, batch: MicroBatch) -> None:
        if self.reference is not None:
            batch.ref_logprobs, _ = self.reference.forward(batch, 1.0)

    def _collate(self, shard: Shard) -> list[list[MicroBatch]]:
        device = self._scorer().device
        return [[collate(shard, rows, device) for rows in step] for step in shard.mini_batches]

    def _anchor(self) -> MovingAnchor:
        from rlvr.learner.anchor import MovingAnchor

        if self.anchor is None:
            assert self.reference is not None, "setup(reference=True) is needed for an anchor that moves"
            reference: Any = self.reference  # a copy: the rules refuse a moving one under LoRA
            self.anchor = MovingAnchor(self._engine(), reference)
        return self.anchor

    def _anchor_file(self, directory: str) -> Path:
        """Of this rank; where ranks hold whole parameters, all of them read and write that of rank 0."""
        return Path(directory) / f"anchor_{self.rank if self.learner.zero_stage == 3 else 0}.pt"

    def _engine(self) -> TrainingEngine:
        assert self.engine is not None, "call setup first"
        return self.engine

    def _scorer(self) -> TrainingEngine | FrozenEngine:
        return self.frozen or self._engine()

    def _release(self) -> None:
        if self.sender is not None:
            self.sender.close()
            self.sender = None
        for engine in (self.engine, self.reference, self.frozen, self.teacher):
            if engine is not None:
                engine.close()
        self.engine = self.reference = self.frozen = self.teacher = None
        self.anchor = None


def _flat(steps: list[list[MicroBatch]]) -> list[MicroBatch]:
    return [batch for step in steps for batch in step]
