"""The rollout worker: an engine on its own thread, inside a Ray actor."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlvr.models.tokenizer import load_tokenizer
from rlvr.records import Prompt, Rollout, SamplingParams, Segment
from rlvr.rollout.engine import Completion, EngineSpec, Request, build_engine
from rlvr.rollout.environment_pool import EnvironmentPool
from rlvr.rollout.trajectory import EnvironmentSpec, Policy, play

if TYPE_CHECKING:
    import numpy as np

    from rlvr.transfer.buckets import Bucket


class RolloutWorker:
    """Serves groups of completions while the engine thread keeps every submitted sequence moving.

    All calls into the engine happen on one thread, in the order they arrive: an update that is submitted after the last
    group has finished cannot interleave with decoding.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.version = 0
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future | None, Any]] = queue.SimpleQueue()
        self._waiting: dict[str, tuple[asyncio.Future, asyncio.AbstractEventLoop]] = {}
        self._count = 0
        self._fatal: BaseException | None = None
        self._stage: _EnvironmentStage | None = None
        self._ready = threading.Event()
        self._step_began: float | None = None  # of the engine step that runs now
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def pulse(self) -> float:
        """Seconds that the engine has been at its present step, 0 between steps; answered on a loop of its own."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    async def start(self) -> int:
        """Returns this process's id once the engine has decoded its warm-up, so that the first step is as fast."""
        await asyncio.get_running_loop().run_in_executor(None, self._ready.wait)
        if self._fatal is not None:
            raise self._fatal
        warm_up = SamplingParams(temperature=1.0, max_completion_tokens=2)
        prompt = Prompt(id="warm-up", token_ids=(0, 1, 2), text="")
        await self.generate(prompt, [(0, 0), (1, 1)], warm_up)
        await self.generate(prompt, [(0, 0)], SamplingParams(temperature=0.0, max_completion_tokens=2))
        return os.getpid()

    async def generate(
        self,
        prompt: Prompt,
        members: Sequence[tuple[int, int]],
        sampling: SamplingParams,
        environment: EnvironmentSpec | None = None,
        greedy_last: bool = False,
    ) -> list[Rollout]:
        """One rollout for each (member, seed), finished; in the order of `members`.

        With an `environment` each plays by itself: while one waits for its environment, the others are decoded.
        `greedy_last` makes the last one greedy, all else as sampled.
        """
        asked = [sampling] * len(members)
        if greedy_last:
            asked[-1] = replace(sampling, temperature=0.0)
        if environment is not None:
            stage = self._enter(environment)
            return list(
                await asyncio.gather(
                    *(self._play(stage, prompt, *m, own) for m, own in zip(members, asked, strict=True))
                )
            )
        completions = await asyncio.gather(
            *(
                self._complete(prompt.id, prompt.token_ids, seed, own)
                for (_, seed), own in zip(members, asked, strict=True)
            )
        )
        version = self.version
        return [
            self._rollout(prompt, member, seed, own, completion, version)
            for (member, seed), own, completion in zip(members, asked, completions, strict=True)
        ]

    async def load_bucket(self, bucket: Bucket, buffer: np.ndarray | None) -> None:
        assert buffer is not None, "only the first learner rank's buffer is sent to the engines"
        await self._on_engine_thread(lambda engine: engine.load_bucket(bucket, buffer))

    async def finish_update(self, version: int, sent: Mapping[str, int]) -> list[str]:
        """Takes the new version; returns the tensors whose checksums differ from what the learner sent."""
        wrong = await self._on_engine_thread(lambda engine: engine.finish_update(version, sent))
        self.version = version
        return wrong

    async def engine_rpc(self, method: str, *args: Any) -> Any:
        """vLLM's worker methods by name, for the CUDA transports of weights."""
        return await self._on_engine_thread(lambda engine: engine.collective_rpc(method, *args))

    async def sleep(self) -> None:
        await self._on_engine_thread(lambda engine: engine.sleep())

    async def wake(self, part: str) -> None:
        """Brings back the GPU memory of `weights`, or of the `kv_cache`: first that which an update fills."""
        await self._on_engine_thread(lambda engine: engine.wake(part))

    async def live(self) -> None:
        """Never answers: whoever called hears of the end of this process."""
        await asyncio.Event().wait()

    def environment_pids(self) -> list[int]:
        """The process ids of the environments that live now."""
        return self._stage.pool.pids() if self._stage is not None else []

    def _enter(self, spec: EnvironmentSpec) -> _EnvironmentStage:
        """The environments of a spec; those of another, which no rollout uses any more, are ended."""
        if self._stage is None or self._stage.spec != spec:
            if self._stage is not None:
                assert not self._stage.pool.num_open, "rollouts of two environments at a time"
                self._stage.pool.close()
            self._stage = _EnvironmentStage(spec, self.spec)
        return self._stage

    async def _play(
        self, stage: _EnvironmentStage, prompt: Prompt, member: int, seed: int, sampling: SamplingParams
    ) -> Rollout:
        async def complete(token_ids: Sequence[int], turn_seed: int, asked: SamplingParams) -> tuple[Completion, int]:
            stops = replace(asked, stop_token_ids=(*asked.stop_token_ids, *stage.stop_token_ids))
            return await self._complete(prompt.id, token_ids, turn_seed, stops), self.version

        policy = Policy(stage.tokenizer, complete, self.engine.decode)
        return await play(prompt, member, seed, sampling, stage.spec, stage.pool.open(), policy)

    async def _complete(
        self, prompt_id: str, token_ids: Sequence[int], seed: int, sampling: SamplingParams
    ) -> Completion:
        if self._fatal is not None:
            raise self._fatal
        self._count += 1
        request = Request(f"{prompt_id}/{self._count}", token_ids, sampling, seed)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        self._waiting[request.id] = (future, loop)
        self._calls.put((lambda: self._add(request), None, None))
        return await future

    async def _on_engine_thread(self, call: Callable[[Any], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._calls.put((lambda: call(self.engine), future, loop))
        return await future

    def _rollout(
        self,
        prompt: Prompt,
        member: int,
        seed: int,
        sampling: SamplingParams,
        completion: Completion,
        version: int,
    ) -> Rollout:
        length = len(completion.token_ids)
        segment = Segment(
            prompt_ids=prompt.token_ids,
            completion_ids=completion.token_ids,
            loss_mask=[True] * length,
            behavior_logprobs=completion.logprobs,
            policy_versions=[version] * length,
            finish_reason=completion.finish_reason,
        )
        return Rollout(prompt, member, seed, [segment], self.engine.decode(completion.token_ids), sampling)

    # --- the engine thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.engine = build_engine(self.spec)
        except BaseException as error:  # noqa: BLE001  # handed to whoever calls start()
            self._fatal = RuntimeError(f"the {self.spec.kind} engine did not start:\n{traceback.format_exc()}")
            self._fatal.__cause__ = error
            self._ready.set()
            return
        self._ready.set()
        while True:
            self._drain_calls()
            if not self.engine.has_unfinished():
                continue
            try:
                self._step_began = time.monotonic()
                finished = self.engine.step()
                self._step_began = None
            except BaseException as error:  # noqa: BLE001  # every waiting caller must hear of it
                self._fail_all(error)
                return
            for completion in finished:
                future, loop = self._waiting.pop(completion.id)
                loop.call_soon_threadsafe(_resolve, future, completion, None)

    def _add(self, request: Request) -> None:
        try:
            self.engine.add(request)
        except Exception as error:  # noqa: BLE001  # a request that the engine refuses fails alone
            future, loop = self._waiting.pop(request.id)
            loop.call_soon_threadsafe(_resolve, future, None, error)

    def _drain_calls(self) -> None:
        """Runs the submitted calls; waits for one when the engine has nothing to do."""
        block = not self.engine.has_unfinished()
        while True:
            try:
                call, future, loop = self._calls.get(block=block)
            except queue.Empty:
                return
            block = False
            try:
                result, error = call(), None
            except Exception as caught:  # noqa: BLE001  # belongs to the caller
                result, error = None, caught
            if future is not None:
                loop.call_soon_threadsafe(_resolve, future, result, error)

    def _fail_all(self, error: BaseException) -> None:
        self._fatal = error
        waiting, self._waiting = self._waiting, {}
        for future, loop in waiting.values():
            loop.call_soon_threadsafe(_resolve, future, None, error)


class _EnvironmentStage:
    """What the rollouts of one spec share: its processes, a tokenizer, the stop texts that are single tokens."""

    def __init__(self, spec: EnvironmentSpec, engine: EngineSpec) -> None:
        self.spec = spec
        self.pool = EnvironmentPool(spec.scheme)
        # Its own, for the recipe's chat template.
        self.tokenizer = load_tokenizer(engine.model_dir, trust_remote_code=engine.trust_remote_code)
        if spec.chat_template is not None:
            self.tokenizer.chat_template = spec.chat_template
        encoded = [self.tokenizer(stop, add_special_tokens=False)["input_ids"] for stop in spec.scheme.stop]
        self.stop_token_ids = tuple(ids[0] for ids in encoded if len(ids) == 1)


def _resolve(future: asyncio.Future, result: Any, error: BaseException | None) -> None:
    if future.cancelled() or future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
