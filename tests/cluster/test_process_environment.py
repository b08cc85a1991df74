"""The environment of processes is set in one file, ports are held, and variables reach workers."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rlvr.cluster import environment
from rlvr.errors import RlvrError

PACKAGE = Path(__file__).parents[2] / "rlvr"
OWNER = PACKAGE / "cluster" / "environment.py"
# What steers devices, threads and libraries. (A setting of Python itself may stand where a process is started.)
OWNED = ("CUDA_", "OMP_", "MKL_", "VLLM_", "NCCL_", "GLOO_", "RAY_", "DS_ACCELERATOR", "TOKENIZERS_", "PYTORCH_")


def settings(path: Path) -> list[str]:
    """Lines of a file that change os.environ."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = [t.value for t in node.targets if isinstance(t, ast.Subscript)]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            targets = [node.func.value] if name in ("setdefault", "update", "pop", "clear") else []
            if name in ("putenv", "unsetenv"):
                found.append(f"{path.name}:{node.lineno}")
        found += [f"{path.name}:{node.lineno}" for t in targets if ast.unparse(t) == "os.environ"]
    return found


def test_no_other_file_sets_environment_variables():
    elsewhere = [line for path in PACKAGE.rglob("*.py") if path != OWNER for line in settings(path)]
    assert elsewhere == [], "set these in rlvr/cluster/environment.py"
    assert settings(OWNER), "the search finds nothing where it must"


def test_no_other_file_writes_variables_that_steer_a_run_into_an_environment():
    """Such as the `env` of a process: what stands in a literal mapping. A submitted job has its own."""
    named = []
    for path in PACKAGE.rglob("*.py"):
        if path == OWNER or "launch" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = node.keys if isinstance(node, ast.Dict) else []
            names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            named += [f"{path.name}:{node.lineno} {name}" for name in names if name.startswith(OWNED)]
    assert named == []


def test_what_is_passed_on_are_the_variables_that_match():
    source = {"HF_TOKEN": "t", "HF_HOME": "/h", "PATH": "/bin", "WANDB_API_KEY": "k", "hf_x": "no"}
    assert environment.passed(["HF_*", "WANDB_*"], source) == {"HF_HOME": "/h", "HF_TOKEN": "t", "WANDB_API_KEY": "k"}


def test_a_hook_sets_what_the_process_does_not_have_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RLVR_TEST_OWN", "of the node")
    monkeypatch.delenv("RLVR_TEST_GIVEN", raising=False)
    environment.setup_hook({"RLVR_TEST_OWN": "of the driver", "RLVR_TEST_GIVEN": "given"})()
    try:
        assert os.environ["RLVR_TEST_OWN"] == "of the node"
        assert os.environ["RLVR_TEST_GIVEN"] == "given"
    finally:
        os.environ.pop("RLVR_TEST_GIVEN", None)


def test_a_held_port_is_taken_and_a_range_is_searched():
    with environment.held_port() as port:
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("", port))
        with pytest.raises(RlvrError, match=rf"resources.ports=\[{port}, {port}\].*taken"):
            environment.free_port((port, port))
        assert port < environment.free_port((port, min(port + 50, 65535))) <= port + 50


def test_memory_of_engines_that_sleep_has_segments_of_fixed_size():
    # vLLM's allocator for sleep, and CUDA IPC, refuse segments that grow.
    assert environment.engine_environment(1, "cuda", sleeps=True)["PYTORCH_ALLOC_CONF"] == "expandable_segments:False"
    assert "PYTORCH_ALLOC_CONF" not in environment.engine_environment(1, "cuda")
    assert environment.learner_environment(1, "cuda", shares=True)["PYTORCH_ALLOC_CONF"] == "expandable_segments:False"


@pytest.mark.parametrize("interface", [None, "ib7"])
def test_a_rank_over_several_nodes_names_its_interface_to_the_collectives(interface):
    """Many distributions resolve their own name to 127.0.1.1, which gloo would hand to the other nodes (R8)."""
    code = (
        "import os, sys\n"
        "from rlvr.cluster import environment as e\n"
        "e.node_address = lambda: '127.0.0.1'\n"
        f"e.become_rank(3, 8, over_nodes=True, interface={interface!r})\n"
        "print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['GLOO_SOCKET_IFNAME'])\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "GLOO_SOCKET_IFNAME"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == ["3", "8", interface or "lo"]
