"""A pool of killable reward processes: every call ends in a typed outcome within its time limit.

Each slot is a thread that owns one process at a time and takes chunks of calls from a common queue. Several calls
travel in one message; the time limit holds for each. When a process dies, the call it was at fails, and the rest of
its chunk goes back to the queue.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rlvr.errors import RlvrError
from rlvr.recipe.schema import RewardConfig
from rlvr.records import Failure, Outcome, Rollout, Score
from rlvr.scoring.functions import target_of
from rlvr.scoring.inputs import inputs_of
from rlvr.scoring.process import ChildSpec, RewardProcess, StartError, TermTraits
from rlvr.scoring.wire import GOLD_CHECK

MAX_CHUNK = 64
ASYNC_GRACE_S = 1.0  # async calls time themselves out; the process is killed only if its event loop is stuck
MAX_TIMEOUTS_IN_ROW = 8


@dataclass(eq=False, slots=True)
class Request:
    """One `score_inputs` or `check_golds` call: outcomes come in from several slots."""

    outcomes: list[dict[str, Outcome]]
    num_open: int
    checks_golds: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    timeouts_in_row: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Call:
    """One call of a reward function: one rollout, or all of a request in the batched form."""

    term: str
    positions: list[int]
    inputs: list[dict[str, Any]]
    request: Request
    num_retries: int = 0


@dataclass(eq=False, slots=True)
class Chunk:
    """Calls that travel together. `fresh` asks for a process that has served nothing yet."""

    calls: list[Call]
    fresh: bool = False


class RewardPool:
    """Scores rollouts in `processes` killable child processes. Needs no Ray; several threads may share it.

    Raises RlvrError at construction if a reward module cannot be imported. `close` ends every process.
    """

    def __init__(self, config: RewardConfig, processes: int) -> None:
        assert processes >= 1, processes
        self._config = config
        terms = {name: (target_of(term.fn), term.params) for name, term in config.terms.items()}
        self._spec = ChildSpec(terms, config.memory_mb, config.timeout_s)
        self._queue: deque[Chunk] = deque()
        self._lock = threading.Condition()
        self._traits: dict[str, TermTraits] = {}
        self._closed = False
        self._broken = ""
        self._processes: list[RewardProcess | None] = [None] * processes
        started = [threading.Event() for _ in range(processes)]
        self._threads = [
            threading.Thread(target=self._slot, args=(i, started[i]), name=f"reward-slot-{i}", daemon=True)
            for i in range(processes)
        ]
        for thread in self._threads:
            thread.start()
        for event in started:
            event.wait()  # bounded by the start limit of a process
        if self._broken:
            self.close()
            raise RlvrError(self._broken)

    def score_rollouts(self, rollouts: list[Rollout]) -> list[dict[str, Outcome]]:
        """One outcome per term for each rollout, in order."""
        return self.score_inputs([inputs_of(rollout) for rollout in rollouts])

    def score_inputs(self, inputs: list[dict[str, Any]]) -> list[dict[str, Outcome]]:
        """The same, from what `rlvr.scoring.inputs.inputs_of` returns."""
        return self._outcomes(list(self._config.terms), Request([{} for _ in inputs], num_open=0), inputs)

    def check_golds(self, inputs: list[dict[str, Any]]) -> list[dict[str, str]]:
        """For each row the terms that cannot use its gold answer, with why: {} for a good one.

        Asks the `check_gold` that a term's module may define, under the limits of any call. `inputs` are what
        `rlvr.scoring.inputs.gold_inputs_of` returns.
        """
        names = {GOLD_CHECK.format(term): term for term in self._config.terms}
        names = {name: term for name, term in names.items() if name in self._traits}
        request = Request([{} for _ in inputs], num_open=0, checks_golds=True)
        checked = self._outcomes(list(names), request, inputs) if names else [{} for _ in inputs]
        return [
            {names[name]: _gold_problem(outcome) for name, outcome in outcomes.items() if outcome != Score(1.0)}
            for outcomes in checked
        ]

    def _outcomes(self, names: list[str], request: Request, inputs: list[dict[str, Any]]) -> list[dict[str, Outcome]]:
        """Calls every named function on every row and waits for the outcomes."""
        if not inputs:
            return []
        chunks = self._chunks(names, request, inputs)
        request.num_open = sum(len(chunk.calls) for chunk in chunks)
        with self._lock:
            self._queue.extend(chunks)
            self._lock.notify_all()
        while not request.done.wait(1.0):
            if self._broken or self._closed or not all(thread.is_alive() for thread in self._threads):
                raise RlvrError(f"the reward pool ended while calls were open: {self._broken or 'closed'}")
        # Slots finish in any order; the terms of the recipe give the order.
        return [{name: outcomes[name] for name in names} for outcomes in request.outcomes]

    def pids(self) -> list[int]:
        """The process ids of the children that live now."""
        return [process.pid for process in list(self._processes) if process is not None]

    def close(self) -> None:
        """Kills every process. Calls that are open raise in the thread that waits for them."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for process in list(self._processes):
            if process is not None:
                process.kill()
        for thread in self._threads:
            thread.join(timeout=5.0)

    # --- requests -> chunks ------------------------------------------------------------------------------------------

    def _chunks(self, names: list[str], request: Request, inputs: list[dict[str, Any]]) -> list[Chunk]:
        chunks: list[Chunk] = []
        one_by_one: list[Call] = []
        for name in names:
            traits = self._traits[name]
            rows = [_wanted(row, traits.names) for row in inputs]
            if traits.batched:
                chunks.append(Chunk([Call(name, list(range(len(rows))), rows, request)]))
                continue
            calls = [Call(name, [position], [row], request) for position, row in enumerate(rows)]
            if traits.asynchronous:  # calls of one chunk run concurrently, so they do not mix with others
                chunks += _split(calls, -(-len(calls) // len(self._processes)))
            else:
                one_by_one += calls
        # Four chunks per process even out uneven calls; more would only send more messages.
        return chunks + _split(one_by_one, -(-len(one_by_one) // (4 * len(self._processes))))

    # --- slots -------------------------------------------------------------------------------------------------------

    def _slot(self, index: int, started: threading.Event) -> None:
        try:
            self._start(index)
            started.set()
            while (chunk := self._take()) is not None:
                process = self._processes[index]
                if process is None or (chunk.fresh and process.num_calls):
                    process = self._restart(index)
                if process is None:
                    self._fail(chunk, Failure("crash", "the reward process could not be started again"))
                    continue
                self._run(process, chunk)
                if process.num_calls >= self._config.calls_per_process or process.left_threads:
                    process.kill()
                if process.dead:
                    self._restart(index)  # now rather than when the next chunk waits for it
        except StartError as error:
            self._broken = self._broken or str(error)
        except BaseException:  # noqa: BLE001 - a dead slot must be heard of, never waited for
            self._broken = self._broken or f"a slot of the reward pool failed:\n{traceback.format_exc()}"
        finally:
            started.set()
            process = self._processes[index]
            self._processes[index] = None
            if process is not None:
                process.close()

    def _start(self, index: int) -> None:
        process = RewardProcess(self._spec)
        self._processes[index] = process
        traits = process.wait_ready()
        with self._lock:
            self._traits = self._traits or traits

    def _restart(self, index: int) -> RewardProcess | None:
        """A new process in the slot; None if it does not come up (the next chunk tries again)."""
        process = self._processes[index]
        self._processes[index] = None
        if process is not None:
            process.close()
        if self._closed:
            return None
        try:
            self._start(index)
        except StartError:
            broken = self._processes[index]
            self._processes[index] = None
            if broken is not None:
                broken.close()
        return self._processes[index]

    def _take(self) -> Chunk | None:
        with self._lock:
            while not self._queue and not self._closed:
                self._lock.wait()
            return None if self._closed else self._queue.popleft()

    def _run(self, process: RewardProcess, chunk: Chunk) -> None:
        """Runs a chunk; every call of it is delivered, or back in the queue, when this returns."""
        calls = self._without_hopeless(chunk.calls)
        if not calls:
            return
        try:
            body = pickle.dumps([(i, call.term, call.inputs) for i, call in enumerate(calls)])
        except Exception as error:  # noqa: BLE001 - pickling runs the code of whatever a column holds
            if len(calls) > 1:
                self._requeue([Chunk([call], chunk.fresh) for call in calls])
            else:
                failure = Failure("exception", f"a column cannot be sent to the reward process: {error}")
                self._deliver(calls[0], [failure] * len(calls[0].positions), final=True)
            return
        asynchronous = self._traits[calls[0].term].asynchronous
        limit_s = self._config.timeout_s + (ASYNC_GRACE_S if asynchronous else 0.0)
        open_calls = dict(enumerate(calls))
        if not calls[0].request.checks_golds:  # ten thousand cheap checks should not wear processes out
            process.num_calls += len(calls)
        retries: list[Call] = []
        for item in process.run(body, len(calls), limit_s):
            if not isinstance(item, Failure):
                call_id, outcomes = item
                retries += self._deliver(open_calls.pop(call_id), outcomes)
            elif not open_calls:
                pass  # it died after its last answer: nobody's fault
            elif asynchronous and len(open_calls) > 1:
                # Any of the concurrent calls may be the guilty one: each is tried again alone.
                self._requeue([Chunk([call]) for call in open_calls.values()])
            else:
                guilty = open_calls.pop(min(open_calls))
                retries += self._deliver(guilty, [item] * len(guilty.positions))
                if open_calls:
                    self._requeue([Chunk(list(open_calls.values()), chunk.fresh)])
        if retries:
            process.kill()  # whatever made a call fail may have left the process in a bad state
            self._requeue([Chunk(retries, fresh=True)])

    def _fail(self, chunk: Chunk, failure: Failure) -> None:
        for call in chunk.calls:
            self._deliver(call, [failure] * len(call.positions), final=True)

    def _requeue(self, chunks: list[Chunk]) -> None:
        """Back to the front: their request has waited longest."""
        with self._lock:
            self._queue.extendleft(reversed(chunks))
            self._lock.notify_all()

    def _without_hopeless(self, calls: list[Call]) -> list[Call]:
        """Leaves out, as failed, calls of a term that has timed out many times in a row within their request.

        A function that always hangs would otherwise cost (rollouts x retries x timeout_s) before anybody hears of it.
        """
        hopeful = []
        for call in calls:
            if call.request.timeouts_in_row.get(call.term, 0) < MAX_TIMEOUTS_IN_ROW:
                hopeful.append(call)
            else:
                text = f"not tried: the last {MAX_TIMEOUTS_IN_ROW} calls of {call.term!r} in this request timed out"
                self._deliver(call, [Failure("timeout", text)] * len(call.positions), final=True)
        return hopeful

    def _deliver(self, call: Call, outcomes: list[Outcome], final: bool = False) -> list[Call]:
        """Hands outcomes to the request; or returns [call] if it failed and may be tried again."""
        request = call.request
        kinds = {outcome.kind for outcome in outcomes if isinstance(outcome, Failure)}
        with self._lock:
            if not final:
                row = request.timeouts_in_row.get(call.term, 0) + 1 if "timeout" in kinds else 0
                request.timeouts_in_row[call.term] = row
            # A signature does not fit better the second time, and a gold answer does not improve.
            final = final or request.checks_golds
            if not final and kinds - {"signature"} and call.num_retries < self._config.on_failure.retries:
                call.num_retries += 1
                return [call]
            for position, outcome in zip(call.positions, outcomes, strict=True):
                request.outcomes[position][call.term] = outcome
            request.num_open -= 1
            if not request.num_open:
                request.done.set()
        return []


def _gold_problem(outcome: Outcome) -> str:
    if isinstance(outcome, Score):
        return str((outcome.info or {}).get("problem", ""))
    return f"check_gold failed ({outcome.kind}): {outcome.message}" if isinstance(outcome, Failure) else "abstained"


def _wanted(row: dict[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    """The inputs that a function accepts by name; the batched form knows two of them by their plurals."""
    if names is None:
        return row
    singular = {"completions": "completion", "answers": "answer"}
    wanted = names | {singular[name] for name in names if name in singular}
    return {name: value for name, value in row.items() if name in wanted}


def _split(calls: list[Call], size: int) -> list[Chunk]:
    size = max(1, min(size, MAX_CHUNK))
    return [Chunk(calls[i : i + size]) for i in range(0, len(calls), size)]
