"""Faults of resources: each ends within 15 s in an error that says what to do (R22)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlvr.cluster.connection import start_ray
from rlvr.cluster.layout import Demand, Node
from rlvr.cluster.placement import check_local, infeasible, plan_placement
from rlvr.controller.run import run_recipe
from rlvr.errors import RecipeError, RlvrError
from rlvr.learner.group import LearnerGroup
from rlvr.recipe.load import load_recipe
from rlvr.recipe.resources import ResourcesConfig

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart" / "addition.yaml"


@contextmanager
def within(seconds: float = 15.0) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def run(runs: Path, *overrides: str) -> None:
    run_recipe(load_recipe(QUICKSTART, [f"runs_dir={runs}", *overrides]))


def test_a_missing_gpu_is_told(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    # In a session whose Ray runs already, the address stands for the machine.
    with (
        within(),
        pytest.raises(RecipeError, match=r"device=cuda: Ray sees no GPU on (this machine|[\d.]+);.*device=cpu"),
    ):
        run(tmp_path, "resources.device=cuda")


def test_a_missing_gpu_is_told_before_ray_starts():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with within(1.0), pytest.raises(RecipeError, match=r"device=cuda: Ray sees no GPU on this machine.*device=cpu"):
        check_local(ResourcesConfig(device="cuda"))


def test_an_infeasible_demand_says_asked_present_missing_and_what_fits():
    nodes = [Node("a", "10.0.0.1", 8), Node("b", "10.0.0.2", 4)]
    demand = Demand(engines=3, learners=4, tensor_parallel=4, side=(("reward.models.judge", 1.0),))
    with within(1.0):
        # 3 x 4 + 4 + 1 = 17 of 12. With one engine 9 fit.
        assert infeasible(demand, nodes) == (
            "resources: asks for 17 GPUs (3 engines x 4 + 4 learner ranks + 1 x 1 for reward.models.judge), the "
            "cluster has 12 (10.0.0.1: 8, 10.0.0.2: 4): 5 missing. What fits: resources.engines.count=1"
        )
    # In all there is enough; no node has 6 left.
    text = infeasible(Demand(engines=2, learners=1, tensor_parallel=6), [Node("a", "a", 8), Node("b", "b", 5)])
    assert "enough in all, but an engine takes 6 of one node" in text


def test_a_demand_for_cores_counts_where_processes_have_threads_of_their_own(ray_cluster):
    # The shared Ray has 4 cores: 3 x 2 threads do not fit, 3 x 1 do; single threads take turns, however many.
    with (
        within(),
        pytest.raises(RecipeError, match=r"threads=2: 3 .* ask for 6 cores.* has 4 .*: 2 missing.*threads=1"),
    ):
        plan_placement(ResourcesConfig.model_validate({"device": "cpu", "learners": {"count": 3, "threads": 2}}))
    placed = plan_placement(ResourcesConfig.model_validate({"device": "cpu", "learners": {"count": 9}}))
    assert len(placed.learner_options) == 9


def test_labels_that_no_node_has_are_told_at_once(ray_cluster):
    wanted = {"device": "cpu", "engines": {"node_labels": {"pool": "nowhere"}}}
    with within(), pytest.raises(RecipeError, match=r"engines.node_labels=.*nowhere.*no node of the cluster has them"):
        plan_placement(ResourcesConfig.model_validate(wanted))


def test_a_taken_port_is_told_by_the_ranks(ray_cluster):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        resources = ResourcesConfig(ports=(port, port), start_timeout_s=60)
        group = LearnerGroup(resources, "cpu")
        try:
            group.pids()  # the start of the process is not the fault's
            with within(), pytest.raises(RlvrError, match=rf"resources.ports=\[{port}, {port}\]: every port .* taken"):
                group.start()
        finally:
            group.close()


def test_an_unreachable_head_is_told_after_one_probe():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts connections and never says a word
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        messages = {
            "127.0.0.1:1": "no Ray cluster answers at 127.0.0.1:1",
            mute: f"what listens at {mute} is no Ray cluster",
            "no.such.host.invalid:6379": "no Ray cluster answers",
            "head": "expected host:port",
            "ray://127.0.0.1:10001": "Ray Client cannot carry a run",
        }
        code = (
            "from rlvr.cluster.connection import start_ray\nfrom rlvr.errors import RlvrError\nimport sys, time\n"
            "for address in sys.argv[1:]:\n    began = time.monotonic()\n    try:\n        start_ray(address)\n"
            "    except RlvrError as error:\n        print(round(time.monotonic() - began, 1), error)\n"
        )
        # In a process of its own: in this one Ray may be running already.
        command = [sys.executable, "-c", code, *messages]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    lines = done.stdout.splitlines()
    assert len(lines) == len(messages), done.stderr
    for line, (address, message) in zip(lines, messages.items(), strict=True):
        assert float(line.split()[0]) < 15
        assert message in line
        assert f"resources.ray_address={address!r}" in line


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Path]:
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(directory)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_told_before_anything_starts(tmp_path):
    # 4 layers of 128 x 32 x 12 + 3 x 128 x 384 weights: 786,432 x 16 bytes, and 16 MiB, are 28 MiB.
    fault = pytest.raises(RlvrError, match=r"runs_dir=.* free on the disk.*at least 28\.0 MiB.*runs_dir=")
    with mounted(tmp_path / "small", "-o", "size=1m") as disk, within(), fault:
        run(disk)


def test_a_run_directory_that_cannot_be_written_is_told_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with within(), pytest.raises(RecipeError, match=r"runs_dir=.*cannot write .*Not a directory.*that you may write"):
        run(tmp_path / "file")
    fault = pytest.raises(RecipeError, match=r"runs_dir=.*cannot write .*Read-only file system")
    with mounted(tmp_path / "fixed", "-o", "ro") as disk, within(), fault:
        run(disk)
    if os.geteuid():  # permissions do not bind root
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(RecipeError, match=r"cannot write .*Permission denied"):
            run(tmp_path / "closed")


def test_ray_that_runs_already_is_used_as_it_is(ray_cluster):
    assert start_ray(None) is False
