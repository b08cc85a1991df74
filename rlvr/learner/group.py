"""The driver's side of learning: one Ray actor per rank, called together, waited for with a deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from rlvr.cluster.autopsy import log_tail
from rlvr.cluster.environment import learner_environment
from rlvr.errors import RlvrError, WorkerDied
from rlvr.learner.batch import Shard, TrainSequence, make_shard
from rlvr.learner.packing import Plan, plan_batch
from rlvr.learner.prepass import keeps_groups_together, keeps_rollouts_together
from rlvr.learner.worker import LearnerWorker
from rlvr.metrics import Metrics, merge
from rlvr.recipe.kl import KlConfig
from rlvr.recipe.schema import LearnerConfig, ObjectiveConfig, ResourcesConfig
from rlvr.transfer.buckets import Bucket
from rlvr.transfer.cuda import SenderSpec

# How long ranks may take to answer a ping after one of them failed; it only bounds how well we name the culprit.
AUTOPSY_S = 5.0


class LearnerGroup:
    """The ranks of the learner. Every method waits for all of them, or raises WorkerDied naming who is gone."""

    def __init__(
        self,
        resources: ResourcesConfig,
        device: str,
        actor_options: Sequence[Mapping[str, Any]] | None = None,
        name: str = "learner",
    ) -> None:
        """`device` is cpu or cuda; `actor_options[r]` are extra Ray options (GPU share, placement) of rank r.

        `name` is what errors call these ranks.
        """
        self.name = name
        self.resources = resources
        self.device = device
        self.world_size = resources.learners.count
        self.learner: LearnerConfig | None = None
        self._known_pids: list[int] = []
        self._sender: SenderSpec | None = None
        threads = resources.learners.threads
        # A ping must be answered while an update runs, so it has a thread of its own.
        actor: Any = ray.remote(concurrency_groups={"health": 1})(LearnerWorker)  # type: ignore[call-overload]
        self.workers = [
            actor.options(
                **{
                    "num_cpus": 0,
                    "num_gpus": 1 if device == "cuda" else 0,
                    # A restarted rank would have lost its weights and its place in the process group.
                    "max_restarts": 0,
                    "max_task_retries": 0,
                    "runtime_env": {"env_vars": learner_environment(threads, device)},
                    **(actor_options[rank] if actor_options else {}),
                }
            ).remote(rank, self.world_size, device, threads)
            for rank in range(self.world_size)
        ]

    def start(self) -> list[int]:
        """Waits until the ranks are placed and connected; their process ids."""
        timeout_s = self.resources.start_timeout_s
        self._known_pids = pids = self.pids()
        host, port = self._wait([self.workers[0].rendezvous.remote()], "starting", timeout_s)[0]
        # A collective must fail after the driver's own deadline would have named the rank that hangs, not before.
        collective_timeout_s = max(self.resources.step_timeout_s, timeout_s) + 60
        self._on_all("connect", host, port, collective_timeout_s, timeout_s=timeout_s)
        return pids

    def setup(
        self,
        model_dir: str | Path,
        learner: LearnerConfig,
        total_optimizer_steps: int,
        seed: int,
        reference: bool,
        trust_remote_code: bool = False,
        head: str = "policy",
        trained: bool = True,
    ) -> None:
        """Loads a Hugging Face model, with a frozen copy as `reference` if asked; called again for each stage.

        `head` scalar makes it a model that answers with a number per token (`rlvr.learner.scalar`); one that is not
        `trained` has no optimizer.
        """
        arguments = (str(model_dir), learner, total_optimizer_steps, seed, reference, trust_remote_code, head, trained)
        self._sender = None
        self.hidden_size = self._on_all("setup", *arguments, timeout_s=self.resources.start_timeout_s)[0]
        self.learner = learner

    def load_teacher(self, model_dir: str | Path) -> None:
        """Loads a frozen model that the policy learns from, after `setup`."""
        self._on_all("load_teacher", str(model_dir), timeout_s=self.resources.start_timeout_s)

    def train_rl(
        self,
        sequences: Sequence[TrainSequence],
        objective: ObjectiveConfig,
        temperature: float,
        max_completion_tokens: int,
        shuffle_seed: int,
        stage_step: int = 0,
        update_sparsity: bool = False,
    ) -> Metrics:
        """Epochs times mini-batches optimizer steps; a batch without loss tokens makes none and reports a loss of 0."""
        learner = self._learner()
        plan = self._plan(
            sequences,
            learner.mini_batches,
            shuffle_seed,
            objective.aggregation,
            max_completion_tokens,
            together=keeps_rollouts_together(objective),
            whole_groups=keeps_groups_together(objective),
        )
        if not plan.num_steps:
            return _nothing_trained()
        parts = self._on_shards(sequences, plan, "train_rl", objective, temperature, stage_step, update_sparsity)
        return merge([*parts, _trained_tokens(sequences)])

    def train_sft(self, sequences: Sequence[TrainSequence]) -> Metrics:
        """One optimizer step on the mean negative log-likelihood of all loss tokens."""
        plan = self._plan(sequences, 1, 0, "token_mean", 1)
        if not plan.num_steps:
            return _nothing_trained()
        return merge([*self._on_shards(sequences, plan, "train_sft"), _trained_tokens(sequences)])

    def train_values(self, sequences: Sequence[TrainSequence], clip: float | None, shuffle_seed: int) -> Metrics:
        """Epochs times mini-batches optimizer steps of a scalar model towards the sequences' column `returns`.

        The mean over all loss tokens of a mini-batch; values are clipped around the column `values`. `value_loss` in
        the metrics is the mean over the steps.
        """
        plan = self._plan(sequences, self._learner().mini_batches, shuffle_seed, "token_mean", 1)
        if not plan.num_steps:
            return _nothing_trained()
        metrics = merge(self._on_shards(sequences, plan, "train_values", clip))
        return {"value_loss" if name == "loss" else name: metric for name, metric in metrics.items()}

    def train_examples(self, sequences: Sequence[TrainSequence], loss: str) -> Metrics:
        """One optimizer step on a loss of examples (`rlvr.learner.examples`), each with the same weight."""
        # A token's weight is 1 / (examples * 1): that of its example, whatever its length.
        plan = self._plan(sequences, 1, 0, "sequence_sum_constant", 1, together=True)
        if not plan.num_steps:
            return _nothing_trained()
        return merge([*self._on_shards(sequences, plan, "train_examples", loss), _trained_tokens(sequences)])

    def representations(self, sequences: Sequence[TrainSequence]) -> list[np.ndarray]:
        """Of each sequence, the sum of the reference's last hidden states over its loss tokens [d]; 0 without any."""
        return self._per_sequence(sequences, np.zeros(self.hidden_size, dtype=np.float32), "representations")

    def token_outputs(self, sequences: Sequence[TrainSequence]) -> list[np.ndarray]:
        """Of each sequence, the outputs at its loss tokens: scores, or logprobs less those of the reference (nats)."""
        return self._per_sequence(sequences, np.zeros(0, dtype=np.float32), "token_outputs")

    def token_kl(self, sequences: Sequence[TrainSequence], temperature: float, config: KlConfig) -> list[np.ndarray]:
        """KL(policy || reference) estimate at each loss token of each sequence (nats), as the recipe weighs it."""
        return self._per_sequence(sequences, np.zeros(0), "token_kl", temperature, config)

    def move_anchor(self, decay: float) -> None:
        """Moves the reference: decay * reference + (1 - decay) * policy; 0 makes it the policy."""
        self._on_all("move_anchor", decay)

    def parameter_specs(self) -> list[tuple[str, tuple[int, ...]]]:
        """Hugging Face names and full shapes of all weights; tied weights once."""
        return self._on_all("parameter_specs")[0]

    def gather_bucket(self, bucket: Bucket) -> tuple[ray.ObjectRef, dict[str, int]]:
        """Reference to the bucket's bytes (uint8 array in Ray's object store), and the checksum of each tensor.

        Raises RunStopped when any weight of the model is not finite, before the first byte leaves the learner.
        """
        pairs = [worker.gather_bucket.options(num_returns=2).remote(bucket) for worker in self.workers]
        sums = self._wait([pair[1] for pair in pairs], "gathering weights", self.resources.step_timeout_s)
        return pairs[0][0], sums[0]

    def send_weights(
        self, backend: str, dtype: str, cap_bytes: int, engines: Sequence[Any], tensor_parallel: int
    ) -> dict[str, int]:
        """Sends all weights from GPU to GPU (nccl or ipc) to the rollout workers; the checksum of each tensor as sent.

        Raises RunStopped when any weight of the model is not finite, before the first byte leaves the learner.
        """
        if self._sender is None:
            host, port = self._wait([self.workers[0].rendezvous.remote()], "opening the transfer", AUTOPSY_S * 6)[0]
            timeout_s = self.resources.step_timeout_s
            self._sender = SenderSpec(backend, dtype, cap_bytes, tuple(engines), tensor_parallel, host, port, timeout_s)
        return self._on_all("send_weights", self._sender)[0]

    def save(self, directory: str | Path) -> None:
        """Sharded training state: weights, optimizer, step number. (The learner draws no random numbers.)"""
        self._on_all("save", str(directory))

    def load(self, directory: str | Path) -> None:
        """Takes up a saved state, after `setup` with the same configuration and number of ranks."""
        self._on_all("load", str(directory))

    def export(self, directory: str | Path) -> None:
        """Writes a Hugging Face directory: safetensors, configuration, tokenizer."""
        self._on_all("export", str(directory))

    def pids(self) -> list[int]:
        """Process ids of the ranks."""
        pings = [worker.ping.options(concurrency_group="health").remote() for worker in self.workers]
        return self._wait(pings, "starting", self.resources.start_timeout_s)

    def close(self) -> None:
        """Ends the ranks at once; what was not saved is gone."""
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def _plan(
        self,
        sequences: Sequence[TrainSequence],
        mini_batches: int,
        seed: int,
        aggregation: str,
        max_completion: int,
        together: bool = False,
        whole_groups: bool = False,
    ) -> Plan:
        learner = self._learner()
        return plan_batch(
            sequences,
            num_ranks=self.world_size,
            num_mini_batches=mini_batches,
            seed=seed,
            max_tokens=learner.max_tokens_per_micro_batch,
            packing=learner.packing,
            aggregation=aggregation,
            max_completion_tokens=max_completion,
            hidden_size=self.hidden_size,
            together=together,
            whole_groups=whole_groups,
        )

    def _per_sequence(
        self, sequences: Sequence[TrainSequence], nothing: np.ndarray, method: str, *arguments: Any
    ) -> list[np.ndarray]:
        """What a method of the ranks says of each sequence, in order; `nothing` for those without a loss token."""
        found = [nothing.copy() for _ in sequences]
        plan = self._plan(sequences, 1, 0, "token_mean", 1)
        if plan.num_steps:
            for rank, result in enumerate(self._on_shards(sequences, plan, method, *arguments)):
                used = _used(plan, rank)
                for position, values in result:
                    found[used[position]] = values
        return found

    def _on_shards(self, sequences: Sequence[TrainSequence], plan: Plan, method: str, *arguments: Any) -> list[Any]:
        shards: list[Shard] = [make_shard(sequences, plan.weights, steps) for steps in plan.ranks]
        refs = [
            getattr(worker, method).remote(ray.put(shard), *arguments)
            for worker, shard in zip(self.workers, shards, strict=True)
        ]
        return self._wait(refs, method, self.resources.step_timeout_s)

    def _on_all(self, method: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        refs = [getattr(worker, method).remote(*arguments) for worker in self.workers]
        return self._wait(refs, method, timeout_s or self.resources.step_timeout_s)

    def _wait(self, refs: Sequence[ray.ObjectRef], phase: str, timeout_s: float) -> list[Any]:
        """Results in order. The first failure counts: the other ranks then hang in a collective or lost their peer."""
        deadline = time.monotonic() + timeout_s
        pending = list(refs)
        while pending:
            remaining = max(0.0, deadline - time.monotonic())
            done, pending = ray.wait(pending, num_returns=1, timeout=remaining)
            if not done:
                silent = [str(rank) for rank, ref in enumerate(refs) if ref in pending]
                raise WorkerDied(
                    f"{self.name}: no answer from rank {', '.join(silent)} in {timeout_s:.0f} s while in {phase}; "
                    f"{self._autopsy() or 'all processes are alive'}. Raise resources.step_timeout_s (start_timeout_s "
                    "while starting) if the work is that long"
                )
            try:
                ray.get(done[0], timeout=AUTOPSY_S)
            except RayError as error:
                self._raise(error, phase)
        return ray.get(list(refs), timeout=AUTOPSY_S)

    def _raise(self, error: RayError, phase: str) -> None:
        """A dead rank first: the error of its peers only says that a connection closed."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, RlvrError):
            raise cause from None
        verdict = self._autopsy()
        if verdict:
            raise WorkerDied(f"{self.name}: {verdict} (while in {phase}); the run can be resumed") from error
        raise error

    def _autopsy(self) -> str:
        """Which ranks are dead or do not answer; empty when all are well."""
        pings = [worker.ping.options(concurrency_group="health").remote() for worker in self.workers]
        deadline = time.monotonic() + AUTOPSY_S
        findings = []
        for rank, ping in enumerate(pings):
            try:
                ray.get(ping, timeout=max(0.1, deadline - time.monotonic()))
            except GetTimeoutError:
                findings.append(f"rank {rank} is frozen")
            except (ActorDiedError, ActorUnavailableError) as error:
                reason = " ".join(str(error).split())
                pid = self._known_pids[rank] if self._known_pids else None
                findings.append(f"rank {rank} died: {reason[:500]}{log_tail(pid)}")
        return "; ".join(findings)

    def _learner(self) -> LearnerConfig:
        assert self.learner is not None, "call setup first"
        return self.learner


def _used(plan: Plan, rank: int) -> list[int]:
    """Positions in the batch of the rank's sequences, in the shard's order."""
    return sorted({index for step in plan.ranks[rank] for micro in step for index in micro})


def _trained_tokens(sequences: Sequence[TrainSequence]) -> Metrics:
    return {"trained_tokens": (float(np.sum([sequence.num_loss_tokens for sequence in sequences])), 1.0)}


def _nothing_trained() -> Metrics:
    return {"loss": (0.0, 1.0), "trained_tokens": (0.0, 1.0), "skipped_steps": (0.0, 1.0), "micro_batches": (0.0, 1.0)}
