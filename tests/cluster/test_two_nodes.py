"""A real Ray cluster of two nodes: what is placed where, what reaches every node, and the end of a node (R8, R22)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.two_nodes import APART, two_node_cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart" / "addition.yaml"
# The smallest run that trains, pushes weights over the nodes and evaluates with them.
SMALL = (
    "stages.sft.steps=2",
    "stages.rl.steps=2",
    "stages.rl.learner.optimizer.warmup_steps=0",
    "stages.sft.learner.optimizer.warmup_steps=0",
    "rollout.prompts_per_step=2",
    "rollout.group_size=4",
    "stages.rl.objective.filter.zero_variance=keep",
    "evaluation.num_prompts=8",
    "resources.engines.count=1",
    "task.train.size=64",
    "task.test.size=64",
)

PLACED = """
import json, os, sys
import ray
from pathlib import Path
from rlvr.cluster.connection import start_ray
from rlvr.cluster.placement import plan_placement
from rlvr.cluster.shared import check_shared
from rlvr.errors import RlvrError
from rlvr.recipe.resources import ResourcesConfig

resources = ResourcesConfig.model_validate(json.loads(sys.argv[1]))
os.environ["HF_TOKEN"] = "a-secret-of-the-driver"
start_ray(resources.ray_address, resources)
placement = plan_placement(resources)

class Probe:
    def look(self):
        node = ray.get_runtime_context().get_node_id()
        return node, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("HF_TOKEN"), os.environ.get("DECLARED")

actor = ray.remote(Probe)
probes = [
    actor.options(**{**options, "runtime_env": {"env_vars": {"OWN": "1"}}}).remote()
    for options in (*placement.engine_options, *placement.learner_options)
]
found = {"seen": ray.get([probe.look.remote() for probe in probes], timeout=120)}
found["environments"] = placement.engine_environments
check_shared([Path.cwd()], [], placement.nodes)
try:
    check_shared([Path.cwd()], [Path("/proc/self/stat")], placement.nodes)  # never the same in two processes
except RlvrError as error:
    found["unshared"] = str(error)
found["left"] = sorted(path.name for path in Path.cwd().iterdir())
placement.release()
print(json.dumps(found))
"""

ACTORS = """
import json, sys
import ray
from ray._private import state

ray.init(address=sys.argv[1], log_to_driver=False)
print(json.dumps([[a["ActorClassName"], a["Address"]["NodeID"]] for a in state.actors().values()]))
"""


def python(code: str, *arguments: str, cwd: Path, timeout_s: float = 200) -> dict | list:
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def train_command(address: str, runs: Path, *more: str) -> list[str]:
    overrides = [f"runs_dir={runs}", "name=apart", f"resources.ray_address={address}", *SMALL, *APART, *more]
    return [sys.executable, "-m", "rlvr.cli.main", "train", str(QUICKSTART), *overrides]


def test_what_is_placed_where_and_what_reaches_every_node(tmp_path):
    """Ray hands out the GPUs that it is told of; nothing here computes on one."""
    with two_node_cluster(num_gpus=4) as cluster:
        section = {
            "device": "cuda",
            "engines": {"count": 1, "tensor_parallel": 2, "node_labels": {"role": "decode"}},
            "learners": {"count": 4},
            "ray_address": cluster.ray_address,
            "environment": {"DECLARED": "in the recipe"},
        }
        found = python(PLACED, json.dumps(section), cwd=tmp_path)
        engine, *ranks = found["seen"]
        assert engine[0] == cluster.second_id
        # A node of four for the four ranks, each with a GPU of its own; vLLM's two workers go to the other.
        assert [rank[0] for rank in ranks] == [cluster.head_id] * 4
        assert sorted(rank[1] for rank in ranks) == ["0", "1", "2", "3"]
        assert found["environments"] == [{"VLLM_RAY_BUNDLE_INDICES": "4,5", "VLLM_RAY_PER_WORKER_GPUS": "1.0"}]
        assert {(token, declared) for *_, token, declared in found["seen"]} == {
            ("a-secret-of-the-driver", "in the recipe")
        }
        assert "does not see /proc/" in found["unshared"]
        assert "same path" in found["unshared"]
        assert found["left"] == []
        logs = Path(cluster.second.get_logs_dir_path())
        assert not [log for log in logs.rglob("*") if log.is_file() and b"a-secret-of-the" in log.read_bytes()]

        section |= {"engines": {"count": 2, "tensor_parallel": 4}, "learners": {"count": 4}}
        with pytest.raises(AssertionError, match=r"asks for 12 GPUs .* has 8 .*: 4 missing. What fits: resources.eng"):
            python(PLACED, json.dumps(section), cwd=tmp_path)


def test_the_quickstart_runs_with_ranks_and_engine_on_different_nodes(tmp_path):
    with two_node_cluster() as cluster:
        done = subprocess.run(
            train_command(cluster.ray_address, tmp_path), capture_output=True, text=True, timeout=400, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        actors = python(ACTORS, cluster.ray_address, cwd=tmp_path)
        assert {node for name, node in actors if name == "LearnerWorker"} == {cluster.head_id}
        assert {node for name, node in actors if name == "RolloutWorker"} == {cluster.second_id}
    summary = json.loads((tmp_path / "apart" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert (tmp_path / "apart" / "export" / "config.json").is_file()
    assert not list((tmp_path / "apart").glob(".seen-by-all-nodes-*"))


def test_a_killed_raylet_ends_the_run_naming_the_node(tmp_path):
    with two_node_cluster() as cluster:
        run = subprocess.Popen(
            train_command(cluster.ray_address, tmp_path, "stages.rl.steps=100000"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        rollouts = tmp_path / "apart" / "rollouts"
        deadline = time.monotonic() + 300
        while not list(rollouts.glob("step-*.jsonl")):
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < deadline, "no step of reinforcement learning was made"
            time.sleep(0.5)
        before = {child.pid for child in psutil.Process(run.pid).children(recursive=True)}
        cluster.kill_second()
        killed = time.monotonic()
        said, _ = run.communicate(timeout=120)
        seconds = time.monotonic() - killed
        assert run.returncode == 4, said
        # Ray's health check takes up to 20 s to call a node dead.
        assert seconds < 90, seconds
        assert "engine 0" in said
        assert "node" in said.split("engine 0", 1)[1]
        assert not [pid for pid in before if psutil.pid_exists(pid)]


def test_the_doctor_looks_at_every_node(tmp_path):
    """What it finds is told per node, the clocks are compared, and both self-tests go from node to node."""
    with two_node_cluster() as cluster:
        command = [sys.executable, "-m", "rlvr.cli.main", "doctor", "--address", cluster.ray_address, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    of_nodes = [finding for finding in findings if finding["node"]]
    imports = [finding for finding in of_nodes if finding["check"] == "stack in a Ray worker"]
    assert len(imports) == 2
    assert len([finding for finding in of_nodes if finding["check"] == "clock between nodes"]) == 2
    found = {finding["check"]: finding for finding in findings if not finding["node"]}
    assert found["Ray"]["found"] == f"2 nodes at {cluster.ray_address}"
    assert found["gloo all-reduce"]["level"] == found["weight transfer"]["level"] == "ok"
