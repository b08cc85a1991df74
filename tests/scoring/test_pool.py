"""The pool against misbehaving functions: a typed outcome within the limit, capacity restored (R1, R2)."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rlvr.errors import RlvrError
from rlvr.recipe.schema import FailurePolicy, RewardConfig, RewardTerm
from rlvr.records import Abstain, Failure, Score
from rlvr.scoring.pool import RewardPool

HOSTILE = Path(__file__).with_name("hostile.py")
TIMEOUT_S = 1.0


def config(*functions, retries=0, memory_mb=2048, calls_per_process=1000, timeout_s=TIMEOUT_S, **params):
    terms = {name: RewardTerm(fn=f"{HOSTILE}:{name}", **params) for name in functions}
    return RewardConfig(
        terms=terms,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
        calls_per_process=calls_per_process,
        on_failure=FailurePolicy(retries=retries),
    )


@pytest.fixture(scope="module")
def pool():
    pool = RewardPool(config("misbehave"), processes=2)
    yield pool
    pool.close()


def alive_after(pool, number, within_s=10.0):
    deadline = time.monotonic() + within_s
    while len(pool.pids()) != number and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(pool.pids())


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("good", Score(1.0)),
        ("bad", Score(0.0)),
        ("true", Score(1.0)),
        ("none", Abstain()),
        ("failure", "exception"),
        ("busy", "timeout"),
        ("huge_power", "timeout"),  # one C call that holds the GIL: no signal handler would ever run
        ("blocked_sleep", "timeout"),
        ("segfault", "crash"),
        ("abort", "crash"),
        ("os_exit", "crash"),
        ("self_kill", "memory"),  # SIGKILL from outside is what the kernel's out-of-memory killer sends
        ("allocate", "memory"),
        ("exception", "exception"),
        ("sys_exit", "exception"),
        ("interrupt", "exception"),
        ("recursion", "exception"),
        ("nan", "non_finite"),
        ("inf", "non_finite"),
        ("big_int", "non_finite"),
        ("text", "bad_return"),
        ("pair", "bad_return"),
        ("threads", Score(1.0)),
        ("prints", Score(1.0)),  # 120 kB on stdout, with lines that look like answers
        ("fork", Score(1.0)),
    ],
)
def test_every_misbehaviour_has_a_typed_outcome_within_the_limit(pool, completion, expected):
    started = time.monotonic()
    outcomes = pool.score_inputs([{"completion": text} for text in ["good", completion, "good", "bad"]])
    elapsed = time.monotonic() - started
    got = outcomes[1]["misbehave"]
    if isinstance(expected, str):
        assert isinstance(got, Failure)
        assert got.kind == expected
    else:
        assert got == expected
    # The neighbours in the same message keep their own verdicts.
    assert [outcomes[i]["misbehave"] for i in (0, 2, 3)] == [Score(1.0), Score(1.0), Score(0.0)]
    assert elapsed < TIMEOUT_S + 2.0  # 2 s for a respawn on a busy machine
    assert alive_after(pool, 2) == 2


def test_failures_say_what_happened(pool):
    def message(completion):
        return pool.score_inputs([{"completion": completion}])[0]["misbehave"].message

    assert "KeyError: 'boom' (hostile.py:" in message("exception")
    assert "SIGSEGV" in message("segfault")
    assert "code 7" in message("os_exit")
    assert "in busy" in message("busy")  # where it was stuck


def test_info_arrives_as_plain_data(pool):
    assert pool.score_inputs([{"completion": "score"}])[0]["misbehave"] == Score(0.5, {"why": "half", "odd": "{1, 2}"})


def test_what_a_function_started_is_killed_with_it(pool):
    def sleepers():
        commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
        return [c for c in commands if c in (["sleep", "3601"], ["sleep", "3602"])]

    assert pool.score_inputs([{"completion": "grandchild"}])[0]["misbehave"].kind == "timeout"
    assert sleepers() == []  # one had left the process group


def test_wrong_arity_is_a_signature_failure():
    pool = RewardPool(config("wrong_arity"), processes=1)
    outcome = pool.score_inputs([{"completion": "x", "answer": "y"}])[0]["wrong_arity"]
    assert isinstance(outcome, Failure)
    assert outcome.kind == "signature"
    assert "no_such_column" in outcome.message
    pool.close()


def test_memory_is_bounded_and_left_usable():
    pool = RewardPool(config("misbehave", memory_mb=256), processes=1)
    outcomes = pool.score_inputs([{"completion": text} for text in ["allocate", "good"]])
    assert outcomes[0]["misbehave"].kind == "memory"
    assert outcomes[1]["misbehave"] == Score(1.0)
    pool.close()


def test_retries_run_in_a_fresh_process_and_can_succeed(tmp_path):
    pool = RewardPool(config("flaky", "where", retries=1, marker=str(tmp_path)), processes=1)
    before = pool.pids()
    outcomes = pool.score_inputs([{"completion": text} for text in "abc"])
    assert [o["flaky"] for o in outcomes] == [Score(1.0)] * 3
    assert pool.pids() != before
    pool.close()


def test_no_retry_when_the_policy_says_so(tmp_path):
    pool = RewardPool(config("flaky", retries=0, marker=str(tmp_path)), processes=1)
    assert pool.score_inputs([{"completion": "a"}])[0]["flaky"].kind == "exception"
    pool.close()


def test_processes_are_recycled_after_their_calls():
    pool = RewardPool(config("where", calls_per_process=4), processes=1)
    seen = {pool.score_inputs([{"completion": "x"}])[0]["where"].value for _ in range(9)}
    assert len(seen) == 3  # calls 1-4, 5-8 and 9
    pool.close()


def test_left_behind_threads_cost_the_process_its_place(pool):
    before = set(pool.pids())
    outcomes = pool.score_inputs([{"completion": "threads"}] * 2)
    assert all(o["misbehave"] == Score(1.0) for o in outcomes)
    deadline = time.monotonic() + 10.0  # the replacement happens behind the answer
    while set(pool.pids()) & before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not set(pool.pids()) & before  # both calls went to different processes: chunks of one
    assert alive_after(pool, 2) == 2


def test_async_calls_overlap_and_time_out_one_by_one():
    pool = RewardPool(config("nap"), processes=1)
    started = time.monotonic()
    outcomes = pool.score_inputs([{"completion": "good"}] * 16)
    assert [o["nap"] for o in outcomes] == [Score(1.0)] * 16
    assert time.monotonic() - started < 2.0  # 16 x 0.3 s one after the other would be 4.8 s
    pool.close()
    pool = RewardPool(config("stuck"), processes=1)
    outcomes = pool.score_inputs([{"completion": text} for text in ["good", "sleep", "busy", "good"]])
    assert [getattr(o["stuck"], "kind", o["stuck"]) for o in outcomes] == [Score(1.0), "timeout", "timeout", Score(1.0)]
    pool.close()


def test_batched_form():
    pool = RewardPool(config("whole", scale=2.0), processes=2)
    rows = [{"completion": c, "answer": "a", "difficulty": d} for c, d in [("a", 1), ("b", 2), ("a", 3)]]
    # scale x (completion == answer) x difficulty: 2*1*1, 2*0*2, 2*1*3
    assert [o["whole"] for o in pool.score_inputs(rows)] == [Score(2.0), Score(0.0), Score(6.0)]
    short = pool.score_inputs([{"completion": c, "answer": "a", "difficulty": 1} for c in ("short", "a")])
    assert [o["whole"].kind for o in short] == ["bad_return"] * 2
    stuck = pool.score_inputs([{"completion": c, "answer": "a", "difficulty": 1} for c in ("busy", "a")])
    assert [o["whole"].kind for o in stuck] == ["timeout"] * 2
    pool.close()


def test_columns_that_a_function_names_or_all_of_them():
    pool = RewardPool(config("columns", extra=3), processes=1)
    outcome = pool.score_inputs([{"completion": "x", "answer": None, "prompt": "p", "level": [1, 2]}])[0]["columns"]
    assert outcome.info == {"answer": None, "prompt": "p", "level": [1, 2], "extra": 3}
    pool.close()


def test_a_column_that_cannot_be_sent_fails_its_own_call_only():
    pool = RewardPool(config("columns"), processes=1)
    outcomes = pool.score_inputs([{"completion": "x", "bad": lambda: 0}, {"completion": "y", "bad": 1}])
    assert outcomes[0]["columns"].kind == "exception"
    assert outcomes[1]["columns"] == Score(1.0, {"bad": 1})
    pool.close()


def test_a_function_that_always_hangs_is_given_up():
    pool = RewardPool(config("misbehave", timeout_s=0.2, retries=1), processes=2)
    started = time.monotonic()
    outcomes = pool.score_inputs([{"completion": "busy"}] * 64)
    assert {o["misbehave"].kind for o in outcomes} == {"timeout"}
    # 64 calls x 2 attempts x 0.2 s / 2 processes would be 12.8 s; it stops after 8 timeouts in a row.
    assert time.monotonic() - started < 6.0
    assert any("not tried" in o["misbehave"].message for o in outcomes)
    pool.close()


def test_import_errors_stop_the_construction(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_package\ndef f(completion):\n    return 1.0\n")
    (tmp_path / "exits.py").write_text("import os\nos._exit(9)\n")
    for file, said in [("broken.py", "no_such_package"), ("exits.py", "code 9")]:
        with pytest.raises(RlvrError, match=said):
            RewardPool(RewardConfig(terms={"t": RewardTerm(fn=f"{tmp_path / file}:f")}), processes=2)


def test_close_leaves_no_process_and_is_idempotent():
    pool = RewardPool(config("misbehave"), processes=2)
    pids = pool.pids()
    assert len(pids) == 2
    pool.close()
    pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(RlvrError, match="closed"):
        pool.score_inputs([{"completion": "good"}])


def test_children_die_with_a_parent_that_is_killed():
    """R8, R22: kill -9 leaves no orphan, not even one that is stuck in user code."""
    code = (
        "from rlvr.recipe.schema import RewardConfig, RewardTerm\n"
        "from rlvr.scoring.pool import RewardPool\n"
        f"terms = {{'h': RewardTerm(fn={str(HOSTILE) + ':misbehave'!r})}}\n"
        "pool = RewardPool(RewardConfig(terms=terms, timeout_s=600), processes=2)\n"
        "print(*pool.pids(), flush=True)\n"
        "pool.score_inputs([{'completion': 'busy'}, {'completion': 'blocked_sleep'}])\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.5)
    assert all(psutil.pid_exists(pid) for pid in pids)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


PICKY = """
import os, time
GOLDS = 0

def reward(completion, answer, level): return 1.0

def check_gold(answer, level, limit=3):
    global GOLDS
    GOLDS += 1
    assert GOLDS < 1000
    if answer == "hang": time.sleep(3600)
    if answer == "die": os._exit(5)
    if answer == "false": return False
    if answer == "key": raise KeyError("boom")
    if level > limit: raise ValueError(f"level {level} is over {limit}")
"""


def picky(tmp_path, **params):
    (tmp_path / "picky.py").write_text(PICKY)
    terms = {"p": RewardTerm(fn=f"{tmp_path}/picky.py:reward", **params), "length": RewardTerm(fn="overlong")}
    return RewardPool(RewardConfig(terms=terms, timeout_s=1.0, calls_per_process=4), processes=1)


def test_golds_are_checked_with_columns_and_parameters_of_the_term(tmp_path):
    """R19. Terms without a check are not asked."""
    rows = [{"answer": "x", "prompt": "?", "level": level} for level in (1, 4, 6)]
    pool = picky(tmp_path)
    assert pool.check_golds(rows) == [{}, {"p": "level 4 is over 3"}, {"p": "level 6 is over 3"}]
    assert pool.check_golds([]) == []
    pool.close()
    pool = picky(tmp_path, limit=5)
    before = pool.pids()
    assert pool.check_golds(rows * 10) == [{}, {}, {"p": "level 6 is over 5"}] * 10
    assert pool.pids() == before  # neither a refusal nor the number of checks costs a process
    pool.close()


def test_a_check_that_breaks_is_a_refusal_with_the_cause(tmp_path):
    pool = picky(tmp_path)
    rows = [{"answer": answer, "level": 1} for answer in ("a", "hang", "b", "die", "false", "key", "c")]
    problems = [row.get("p") for row in pool.check_golds(rows)]
    assert [problems[i] for i in (0, 2, 6)] == [None] * 3
    for index, said in [(1, "(timeout)"), (3, "code 5"), (4, "check_gold returned False"), (5, "KeyError: 'boom'")]:
        assert said in problems[index]
    (missing,) = pool.check_golds([{"answer": "a"}])
    assert "(signature)" in missing["p"]
    assert "level" in missing["p"]
    assert pool.score_inputs(
        [{"completion": "x", "answer": "a", "level": 9, "num_tokens": 1, "max_completion_tokens": 9}]
    )
    pool.close()


def test_ten_thousand_golds_take_seconds():
    pool = RewardPool(RewardConfig(terms={"math": RewardTerm(fn="math")}), processes=2)
    rows = [{"answer": str(i)} for i in range(9_500)] + [{"answer": rf"\frac{{{i}}}{{7}}"} for i in range(500)]
    rows[77] = {"answer": ""}
    started = time.monotonic()
    problems = pool.check_golds(rows)
    # About 1.5 s on two free cores.
    assert time.monotonic() - started < 5.0 * (4 if os.getloadavg()[0] > 3 else 1)
    assert [i for i, row in enumerate(problems) if row] == [77]
    pool.close()


def test_math_throughput():
    """512 math-verify calls in two processes; about 0.25 s on two free cores."""
    terms = {"math": RewardTerm(fn="math"), "again": RewardTerm(fn="math", weight=0.5)}
    pool = RewardPool(RewardConfig(terms=terms), processes=2)
    rows = [
        {"completion": rf"We add: {i}+5, so \boxed{{\frac{{{i + 5 + i % 2}}}{{7}}}}.", "answer": f"{i + 5}/7"}
        for i in range(256)
    ]
    times = []
    for _ in range(3):
        started = time.monotonic()
        outcomes = pool.score_inputs(rows)
        times.append(time.monotonic() - started)
    assert [o["math"].value for o in outcomes] == [1.0 - i % 2 for i in range(256)]
    assert min(times) < 0.5 * (4 if os.getloadavg()[0] > 3 else 1)
    pool.close()
