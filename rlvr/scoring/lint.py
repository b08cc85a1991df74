"""What is wrong with a reward function: probes through the pool, repetition, threads, and a look at its source."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr import slots
from rlvr.cluster.environment import reward_environment
from rlvr.recipe.reward import RewardConfig, RewardTerm
from rlvr.records import Abstain, Failure, Outcome, Score
from rlvr.scoring.functions import ROOT, target_of
from rlvr.scoring.pool import RewardPool
from rlvr.scoring.probes import REMEDIES, Case, Probe, probes_of
from rlvr.scoring.wire import encode

HASH_SEEDS = ("0", "1")
LONG_FACTOR = 8  # a text of 100,000 characters may take so many times the latency limit
MAX_SHOWN = 120
TERM = "linted"
NO_SIGNALS = "signals work in main threads only and do not interrupt C code: the pool kills a call at its time limit"
SUSPECTS = {
    "eval": "never evaluate text that a model wrote: parse it (json, ast.literal_eval, a parser of your own)",
    "exec": "never execute text that a model wrote outside a sandbox: use `code_tests` or rewards/sandbox",
    "alarm": NO_SIGNALS,
    "setitimer": NO_SIGNALS,
    "SIGALRM": NO_SIGNALS,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: which probe showed it, what happened, what to do about it, and an example."""

    kind: str
    said: str
    remedy: str
    example: str = ""


@dataclass(slots=True)
class Report:
    """The faults of a function; `notes` are worth knowing and no faults."""

    fn: str
    num_probes: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    p50_ms: float | None = None
    p99_ms: float | None = None


def lint(fn: str, cases: Sequence[Case], params: dict[str, Any], max_latency_ms: float, timeout_s: float) -> Report:
    """Probes one function on its cases. Raises RlvrError if it cannot be imported."""
    report = Report(fn)
    report.findings += _suspects(fn)
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(cases):
            marker = Path(scratch) / f"ran-{number}"
            probes = probes_of(case, str(marker))
            report.num_probes += len(probes)
            term = RewardTerm(fn=fn, **{**case.params, **params})
            outcomes = _through_the_pool(term, probes, timeout_s)
            report.findings += _verdicts(case, probes, outcomes, report.notes)
            if marker.exists():
                report.findings.append(Finding("code", "code in a completion was run", REMEDIES["code"]))
            # What hung or died is reported; it would only take the next process down too.
            alive = [i for i, o in enumerate(outcomes) if not _died(o)]
            _repeat(report, term, [probes[i] for i in alive], [outcomes[i] for i in alive], max_latency_ms, scratch)
    report.findings = list({(f.kind, f.said): f for f in report.findings}.values())
    return report


def _died(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.kind in ("timeout", "memory", "crash", "lost")


def _through_the_pool(term: RewardTerm, probes: Sequence[Probe], timeout_s: float) -> list[Outcome]:
    config = RewardConfig.model_validate(
        {"terms": {TERM: term.model_dump()}, "timeout_s": timeout_s, "on_failure": {"retries": 0}}
    )
    pool = RewardPool(config, 1)
    try:
        # One call each: a batched function must cope with a group of one.
        return [pool.score_inputs([probe.inputs])[0][TERM] for probe in probes]
    finally:
        pool.close()


def _verdicts(case: Case, probes: Sequence[Probe], outcomes: Sequence[Outcome], notes: list[str]) -> list[Finding]:
    """Faults in what the function said: failures, wrong answers that pay, right ones that do not."""
    findings = []
    rejected = []
    for probe, outcome in zip(probes, outcomes, strict=True):
        text = _shown(probe.inputs["completion"])
        if isinstance(outcome, Failure):
            if probe.kind == "no gold" and outcome.kind == "exception":
                continue  # as it should
            findings.append(
                Finding(probe.kind, f"fails ({outcome.kind}): {outcome.message[:200]}", _cure(probe, outcome), text)
            )
        elif isinstance(outcome, Abstain):
            if probe.expectation != "answers":
                notes.append(f"{probe.kind}: abstains on {text}")
        elif isinstance(outcome, Score):
            if probe.expectation == "wrong" and outcome.value > case.floor + 1e-9:
                said = f"scores {outcome.value:g}, at most {case.floor:g} is due"
                findings.append(Finding(probe.kind, said, REMEDIES[probe.kind], text))
            elif probe.expectation == "right" and outcome.value < case.full - 1e-9:
                rejected.append(
                    Finding("right", f"scores {outcome.value:g}, {case.full:g} is due", REMEDIES["right"], text)
                )
    if case.any_of and len(rejected) < len(case.right):
        notes += [f"right answer {finding.example} {finding.said.split(',')[0]}" for finding in rejected]
        return findings
    return findings + rejected


def _cure(probe: Probe, failure: Failure) -> str:
    if failure.kind in ("timeout", "memory"):
        return REMEDIES["nested" if probe.kind == "nested" else "long"]
    if failure.kind == "signature":
        return "give the missing columns by --rows, or parameters by --param"
    return "text that does not parse is a 0.0: catch what parsing raises, and nothing else"


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]!a}... ({len(text)} characters)"


def _repeat(
    report: Report,
    term: RewardTerm,
    probes: Sequence[Probe],
    outcomes: Sequence[Outcome],
    max_latency_ms: float,
    scratch: str,
) -> None:
    """Adds what shows when the same calls are made again: chance, state, races, latency."""
    first, second = (_child(term, probes, seed, scratch) for seed in HASH_SEEDS)
    if isinstance(first, str) or isinstance(second, str):
        said = str(first if isinstance(first, str) else second)
        report.findings.append(
            Finding("repetition", said, "the same calls passed one by one: keep no state between calls")
        )
        return
    _differences(report, probes, [encode(outcome)[:2] for outcome in outcomes], first, second)
    latencies = sorted(t for t, p in zip(first["latency_s"], probes, strict=True) if p.kind != "long")
    slowest = max((t for t, p in zip(first["latency_s"], probes, strict=True) if p.kind == "long"), default=0.0)
    p50, p99 = (1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))] for share in (0.5, 0.99))
    report.p50_ms, report.p99_ms = max(p50, report.p50_ms or 0.0), max(p99, report.p99_ms or 0.0)
    if p99 > max_latency_ms:
        remedy = "move tables and clients into warm_up(), bound what is read, or raise --max-latency-ms"
        report.findings.append(Finding("latency", f"99 of 100 calls take up to {p99:.0f} ms", remedy))
    if 1000 * slowest > LONG_FACTOR * max_latency_ms:
        said = f"a text of 100,000 characters takes {1000 * slowest:.0f} ms"
        report.findings.append(Finding("latency", said, REMEDIES["long"]))


def _differences(
    report: Report, probes: Sequence[Probe], pooled: list[Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    checks = (
        ("chance", "differs when the same call is made again", "seed what is random from the inputs, or leave it out",
         _unequal(first["forward"], first["backward"])),
        ("processes", "differs between processes", "do not depend on hash(), the order of sets, or the process",
         _unequal(first["forward"], second["forward"]) or _unequal(pooled, first["forward"])),
        ("threads", "differs when called from several threads at once",
         "keep nothing of a call in module globals, and use no signals: they work in main threads only",
         next((i for i, differing in enumerate(first["threaded"]) if differing), None)),
    )  # fmt: skip
    for kind, said, remedy, index in checks:
        if index is not None:
            report.findings.append(Finding(kind, said, remedy, _shown(probes[index].inputs["completion"])))
            return  # what differs by chance differs everywhere


def _unequal(first: list[Any], second: list[Any]) -> int | None:
    # Messages of failures may name addresses; that both fail is enough.
    same = (a == b or a[0] == b[0] == "failure" for a, b in zip(first, second, strict=True))
    return next((i for i, equal in enumerate(same) if not equal), None)


def _child(term: RewardTerm, probes: Sequence[Probe], hash_seed: str, scratch: str) -> dict[str, Any] | str:
    """The answer of `rlvr.scoring.lint_child`, or why there is none."""
    request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
    target = str(target_of(term.fn))
    if slots.is_path(target):
        file, name = slots.split_path(target)
        target = f"{file.resolve()}:{name}"
    once = [i for i, probe in enumerate(probes) if probe.kind == "long"]
    request.write_text(
        json.dumps({"target": target, "params": term.params, "rows": [p.inputs for p in probes], "once": once})
    )
    answer.unlink(missing_ok=True)
    environment = {
        **os.environ,
        **reward_environment(),
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "rlvr.scoring.lint_child", str(request), str(answer)]
    limit_s = 300.0
    try:
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{len(probes)} probes, repeated and from threads, take longer than {limit_s:g} s"
    if not answer.exists():
        return f"the process ended with {done.returncode} when calls were repeated: {done.stderr[-300:]}"
    return json.loads(answer.read_text())


def _suspects(fn: str) -> list[Finding]:
    """Names in the function's source that have no place in a reward."""
    target = str(target_of(fn))
    if slots.is_path(target):
        file = slots.split_path(target)[0]
    else:
        spec = importlib.util.find_spec(target.partition(":")[0])
        assert spec is not None, target
        assert spec.origin is not None, target
        file = Path(spec.origin)
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            found.setdefault(node.func.id, node.lineno)
        elif isinstance(node, ast.Attribute) and node.attr in ("alarm", "setitimer", "SIGALRM"):
            found.setdefault(node.attr, node.lineno)
    return [Finding("source", f"uses {name} ({file.name}:{line})", SUSPECTS[name]) for name, line in found.items()]
