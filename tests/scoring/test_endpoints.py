"""A term's model reaches its function as `endpoint`, and the limits hold over all reward processes."""

import pytest

from rlvr.recipe.schema import FailurePolicy, RewardConfig, RewardTerm
from rlvr.records import Score
from rlvr.scoring.endpoints import endpoints_of
from rlvr.scoring.pool import RewardPool
from tests.rewards.judging.scripted import Reply, serving, user_text


def config(url, term=None, timeout_s=20.0, retries=0, **model):
    models = {"m": {"kind": "endpoint", "url": url, "model": "x", "timeout_s": 5.0, "max_retries": 0} | model}
    terms = {"judged": {"fn": "judge", "model": "m", "template": "verdict", "timeout_s": timeout_s} | (term or {})}
    terms["answer"] = {"fn": "math"}
    policy = {"retries": retries}
    return RewardConfig.model_validate({"terms": terms, "models": models, "on_failure": policy, "timeout_s": 2.0})


@pytest.fixture
def serve():
    with serving() as start:
        yield start


def scored(config, completions, processes=2, endpoints=None):
    pool = RewardPool(config, processes, endpoints)
    try:
        return pool.score_inputs([{"completion": c, "answer": "4", "prompt": "2+2?"} for c in completions])
    finally:
        pool.close()


def test_limits_are_divided_and_served_models_found():
    model = {"kind": "vllm", "path": "p", "max_concurrent": 10, "requests_per_minute": 60, "api_key_env": "K"}
    models = {
        "a": {"kind": "endpoint", "url": "http://h/v1", "model": "x", "api_key_env": "K", "max_concurrent": 9},
        "b": {key: value for key, value in model.items() if key != "api_key_env"},
        "c": {"kind": "classifier", "path": "p"},
    }
    config = RewardConfig.model_validate({"terms": {"t": {"fn": "math"}}, "models": models})
    assert set(endpoints_of(config, {}, 1)) == {"a"}  # b is not served yet, c does not answer in text
    found = endpoints_of(config, {"b": {"url": "http://127.0.0.1:1/v1", "log": "b.log"}}, 4)
    assert (found["a"]["url"], found["a"]["model"], found["a"]["api_key_env"]) == ("http://h/v1", "x", "K")
    assert found["a"]["max_concurrent"] == 2  # 9 over 4 processes, never more than 9 together
    assert (found["b"]["url"], found["b"]["model"], found["b"]["log"]) == ("http://127.0.0.1:1/v1", "b", "b.log")
    assert (found["b"]["max_concurrent"], found["b"]["requests_per_minute"]) == (2, 15.0)


def test_isolated_terms_have_processes_of_their_own_and_share_the_limits():
    asks = {"fn": "judge", "model": "m"}
    models = {"m": {"kind": "endpoint", "url": "http://h/v1", "model": "x", "max_concurrent": 12}}
    terms = {"a": asks, "b": asks, "c": asks | {"isolated": True}}
    config = RewardConfig.model_validate({"terms": terms, "models": models})
    # 2 processes for a and b, 2 more for c.
    assert endpoints_of(config, {}, 2)["m"]["max_concurrent"] == 3


def test_judges_and_rules_score_side_by_side(serve):
    server = serve(lambda body: "Verdict: " + ("Correct" if "{4}" in user_text(body) else "Incorrect"))
    rows = scored(config(server.url), [r"\boxed{4}", r"\boxed{5}"] * 4)
    assert [row["judged"].value for row in rows] == [1.0, 0.0] * 4
    assert [row["answer"].value for row in rows] == [1.0, 0.0] * 4
    assert len(server.requests) == 8


def test_concurrency_holds_over_processes(serve):
    server = serve(Reply("Verdict: Correct", delay_s=0.1))
    rows = scored(config(server.url, max_concurrent=4), [f"answer {i}" for i in range(16)])
    assert all(row["judged"].value == 1.0 for row in rows)
    assert 2 <= server.most_under_way <= 4


def test_a_judge_has_a_time_limit_of_its_own(serve):
    server = serve(Reply("Verdict: Correct", delay_s=2.5))  # more than reward.timeout_s, less than the term's
    assert scored(config(server.url), ["4"])[0]["judged"] == Score(1.0, {"judge": "m", "asked": {"requests": 1}})
    timed_out = scored(config(server.url, timeout_s=1.0), ["4"])[0]["judged"]
    assert timed_out.kind == "timeout"


@pytest.mark.parametrize(("reply", "kind"), [(Reply("?"), "unparseable"), (Reply(status=404), "unavailable")])
def test_a_judge_retries_by_itself_and_keeps_its_process(serve, reply, kind):
    server = serve(reply)
    rows = scored(config(server.url, retries=3), ["4", "5"])
    assert [row["judged"].kind for row in rows] == [kind, kind]
    assert len(server.requests) == 2  # one for each: the pool does not try again


def test_a_function_of_ones_own_gets_the_endpoint(tmp_path, serve):
    file = tmp_path / "own.py"
    file.write_text("def score(completion, endpoint):\n    return float(endpoint['url'].endswith('/v1'))\n")
    term = RewardTerm(fn=f"{file}:score", model="m")
    models = {"m": {"kind": "endpoint", "url": "http://h/v1", "model": "x"}}
    own = RewardConfig(terms={"t": term}, models=models, on_failure=FailurePolicy(retries=0))
    assert scored(own, ["4"], processes=1)[0]["t"] == Score(1.0)
