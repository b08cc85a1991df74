"""The driver's side of learning: one Ray actor per rank, called together, waited for with a deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from rlvr.cluster.autopsy import death, out_of_memory, silence
from rlvr.cluster.environment import learner_environment
from rlvr.cluster.memory import PeakMemory
from rlvr.cluster.roster import HEALTH, ROSTER, Member
from rlvr.errors import RlvrError, WorkerDied
from rlvr.learner.batch import Shard, TrainSequence, make_shard
from rlvr.learner.packing import Plan, plan_batch
from rlvr.learner.prepass import keeps_groups_together, keeps_rollouts_together
from rlvr.learner.worker import LearnerWorker
from rlvr.learner.worst_case import KNOBS, shape_of
from rlvr.metrics import Metrics, merge
from rlvr.recipe.kl import KlConfig
from rlvr.recipe.schema import LearnerConfig, ObjectiveConfig, ResourcesConfig
from rlvr.transfer.buckets import Bucket, Form
from rlvr.transfer.cuda import SenderSpec

# How long ranks may take to answer a ping after one of them failed; it only bounds how well we name the culprit.
AUTOPSY_S = 5.0
NO_LIVES: Mapping[ray.ObjectRef, Member] = {}
# What a method is in the words of a run.
PHASES = {
    "connect": "start",
    "setup": "start",
    "load": "start",
    "load_teacher": "start",
    "gather_bucket": "transfer",
    "send_weights": "transfer",
    "save": "save",
    "export": "save",
}


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
        self.loads = 0  # models loaded so far: a count that moves says that all weights are others
        self._sender: SenderSpec | None = None
        threads, shares = resources.learners.threads, resources.placement == "colocated" and device == "cuda"
        # A ping must be answered while an update runs, so it has a thread of its own.
        actor: Any = ray.remote(concurrency_groups={HEALTH: 1})(LearnerWorker)  # type: ignore[call-overload]
        self.workers = [
            actor.options(
                **{
                    "num_cpus": 0,
                    "num_gpus": 1 if device == "cuda" else 0,
                    # A restarted rank would have lost its weights and its place in the process group.
                    "max_restarts": 0,
                    "max_task_retries": 0,
                    "runtime_env": {"env_vars": learner_environment(threads, device, shares)},
                    **(actor_options[rank] if actor_options else {}),
                }
            ).remote(rank, self.world_size, device, threads)
            for rank in range(self.world_size)
        ]
        self.members: list[Member] = [
            ROSTER.enlist(f"{name} rank {rank}", worker, pulse=True) for rank, worker in enumerate(self.workers)
        ]

    def start(self) -> list[int]:
        """Waits until the ranks are placed and connected; their process ids."""
        timeout_s = self.resources.start_timeout_s
        pids = self.pids()
        addresses = self._on_all("address", timeout_s=timeout_s)
        over_nodes = len(set(addresses)) > 1
        host = addresses[0] if over_nodes else "127.0.0.1"
        ports, interface = self.resources.ports, self.resources.network_interface
        port = self._wait([self.workers[0].rendezvous.remote(host, timeout_s, ports)], "start", timeout_s)[0]
        # A collective must fail after the driver's own deadline would have named the rank that hangs, not before.
        collective_timeout_s = max(self.resources.step_timeout_s, timeout_s) + 60
        joining = (host, port, collective_timeout_s, over_nodes, interface)
        self._on_all("connect", *joining, timeout_s=timeout_s)
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
        self.loads += 1
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

    def try_worst_case(self, method: str, shard: Shard, *arguments: Any) -> list[PeakMemory]:
        """What each rank holds at most when all take `shard` through a training method; changes nothing.

        RecipeError naming shape and knobs when memory does not suffice, WorkerDied when the system ended a rank.
        """
        held = ray.put(shard)
        refs = [worker.try_worst_case.remote(method, held, *arguments) for worker in self.workers]
        try:
            return self._wait(refs, f"the trial of {shape_of(shard)}", self.resources.step_timeout_s)
        except WorkerDied as error:
            raise WorkerDied(f"{error}. If memory ran out: {KNOBS}") from error

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

    @property
    def sent_form(self) -> Form:
        """What engines are sent after a step."""
        lora = self._learner().lora
        return "adapter" if lora is not None and lora.transfer == "adapter" else "weights"

    def parameter_specs(self, form: Form = "weights") -> list[tuple[str, tuple[int, ...]]]:
        """Names, Hugging Face's or peft's, and full shapes of what leaves in a form; tied weights once."""
        return self._on_all("parameter_specs", form)[0]

    def gather_bucket(self, bucket: Bucket) -> tuple[ray.ObjectRef, dict[str, int]]:
        """Reference to the bucket's bytes (uint8 array in Ray's object store), and the checksum of each tensor.

        Raises RunStopped when any weight of the model is not finite, before the first byte leaves the learner.
        """
        pairs = [worker.gather_bucket.options(num_returns=2).remote(bucket) for worker in self.workers]
        sums = self._wait([pair[1] for pair in pairs], "gather_bucket", self.resources.step_timeout_s)
        return pairs[0][0], sums[0]

    def send_weights(
        self,
        backend: str,
        dtype: str,
        cap_bytes: int,
        engines: Sequence[Any],
        tensor_parallel: int,
        lives: Mapping[ray.ObjectRef, Member],
    ) -> dict[str, int]:
        """Sends all weights from GPU to GPU (nccl or ipc) to the rollout workers; the checksum of each tensor as sent.

        `lives` are calls that end only with the life of an engine: a rank that waits in a collective for a dead one
        would not notice.

        Raises RunStopped when any weight of the model is not finite, before the first byte leaves the learner.
        """
        if self._sender is None:
            endpoint = self.workers[0].transfer_endpoint.remote(self.resources.ports)
            host, port = self._wait([endpoint], "transfer", AUTOPSY_S * 6)[0]
            timeout_s = self.resources.step_timeout_s
            self._sender = SenderSpec(backend, dtype, cap_bytes, tuple(engines), tensor_parallel, host, port, timeout_s)
        refs = [worker.send_weights.remote(self._sender) for worker in self.workers]
        return self._wait(refs, "send_weights", self.resources.step_timeout_s, lives)[0]

    def release_cache(self) -> None:
        """Has every rank give the GPU memory back that it does not use."""
        self._on_all("release_cache")

    def save(self, directory: str | Path, timeout_s: float | None = None) -> None:
        """Sharded training state: weights, optimizer, step number. (The learner draws no random numbers.)"""
        self._on_all("save", str(directory), timeout_s=timeout_s)

    def load(self, directory: str | Path) -> None:
        """Takes up a saved state, after `setup` with the same configuration and number of ranks."""
        self._on_all("load", str(directory))

    def export(self, directory: str | Path, form: Form = "weights") -> None:
        """Writes a Hugging Face directory: safetensors, configuration, tokenizer. Form peft: an adapter's."""
        self._on_all("export", str(directory), form)

    def gpu_peaks(self) -> list[PeakMemory]:
        """GPU memory of each rank at most since they were last asked; nothing of ranks that do not answer in time."""
        calls = [worker.gpu_peak.options(concurrency_group=HEALTH).remote() for worker in self.workers]
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=AUTOPSY_S)
        return [ray.get(call) if call in done else PeakMemory(0.0) for call in calls]

    def pids(self) -> list[int]:
        """Process ids of the ranks."""
        pings = [worker.ping.options(concurrency_group=HEALTH).remote() for worker in self.workers]
        return self._wait(pings, "start", self.resources.start_timeout_s)

    def close(self) -> None:
        """Ends the ranks at once; what was not saved is gone."""
        for worker in self.workers:
            ray.kill(worker)
        ROSTER.dismiss(self.members)
        self.workers, self.members = [], []

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
            num_ranks=self.world_size // learner.sequence_parallel,
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
        """What one rank of each sequence group answers; all ranks of a group get the same rows."""
        size = self._learner().sequence_parallel
        shards = [ray.put(make_shard(sequences, plan.weights, steps)) for steps in plan.ranks]
        refs = [
            getattr(worker, method).remote(shards[rank // size], *arguments) for rank, worker in enumerate(self.workers)
        ]
        return self._wait(refs, method, self.resources.step_timeout_s)[::size]

    def _on_all(self, method: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        refs = [getattr(worker, method).remote(*arguments) for worker in self.workers]
        return self._wait(refs, method, timeout_s or self.resources.step_timeout_s)

    def _wait(
        self,
        refs: Sequence[ray.ObjectRef],
        method: str,
        timeout_s: float,
        lives: Mapping[ray.ObjectRef, Member] = NO_LIVES,
    ) -> list[Any]:
        """Results in order. The first failure counts: the other ranks then hang in a collective or lost their peer."""
        phase = _phase_of(method)
        deadline = time.monotonic() + timeout_s
        pending = list(refs)
        while pending:
            watched = [*self.members, *lives.values()]
            done, frozen = ROSTER.wait([*pending, *lives], watched, deadline - time.monotonic())
            if frozen is not None:
                raise death(frozen, phase)
            if done and done[0] in lives:
                raise death(lives[done[0]], phase, _error_of(done[0]))
            if not done:
                raise self._late([rank for rank, ref in enumerate(refs) if ref in pending], phase, timeout_s)
            pending.remove(done[0])
            try:
                ray.get(done[0], timeout=AUTOPSY_S)
            except RayError as error:
                self._raise(error, list(refs).index(done[0]), phase)
        return ray.get(list(refs), timeout=AUTOPSY_S)

    def _late(self, silent: Sequence[int], phase: str, timeout_s: float) -> WorkerDied:
        """What to raise when ranks have not answered by the deadline."""
        unwell = self._unwell()
        if unwell is not None:
            return death(unwell[0], phase, unwell[1])
        knob = "resources.start_timeout_s" if phase == "start" else "resources.step_timeout_s"
        return silence(self.members[silent[0]], phase, timeout_s, knob)

    def _raise(self, error: RayError, rank: int, phase: str) -> None:
        """A dead rank first: the error of its peers only says that a connection closed."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, RlvrError):
            raise cause from None
        unwell = self._unwell()
        if unwell is not None:
            raise death(unwell[0], phase, unwell[1]) from error
        if isinstance(error, RayTaskError) and out_of_memory(error):
            raise death(self.members[rank], phase, error) from error
        raise error

    def _unwell(self) -> tuple[Member, RayError | None] | None:
        """The rank that is dead, else one that does not answer, with the error; None when all are well."""
        pings = [worker.pulse.options(concurrency_group=HEALTH).remote() for worker in self.workers]
        deadline = time.monotonic() + AUTOPSY_S
        found: tuple[Member, RayError | None] | None = None
        for member, ping in zip(self.members, pings, strict=True):
            try:
                ray.get(ping, timeout=max(0.1, deadline - time.monotonic()))
            except GetTimeoutError:
                member.frozen = member.frozen or f"has not answered for {AUTOPSY_S:.0f} s"
                found = found or (member, None)
            except (ActorDiedError, ActorUnavailableError) as error:
                return member, error
        return found

    def _learner(self) -> LearnerConfig:
        assert self.learner is not None, "call setup first"
        return self.learner


def _error_of(ref: ray.ObjectRef) -> RayError | None:
    try:
        ray.get(ref, timeout=AUTOPSY_S)
    except RayError as error:
        return error
    return None


def _phase_of(method: str) -> str:
    return PHASES.get(method, method if method in PHASES.values() else f"learn ({method})")


def _used(plan: Plan, rank: int) -> list[int]:
    """Positions in the batch of the rank's sequences, in the shard's order."""
    return sorted({index for step in plan.ranks[rank] for micro in step for index in micro})


def _trained_tokens(sequences: Sequence[TrainSequence]) -> Metrics:
    return {"trained_tokens": (float(np.sum([sequence.num_loss_tokens for sequence in sequences])), 1.0)}


def _nothing_trained() -> Metrics:
    return {"loss": (0.0, 1.0), "trained_tokens": (0.0, 1.0), "skipped_steps": (0.0, 1.0), "micro_batches": (0.0, 1.0)}
