"""Whether the nodes of a cluster see the directories that the driver writes, and run the same rlvr."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlvr import __version__
from rlvr.cluster.layout import Node
from rlvr.errors import RlvrError

DEADLINE_S = 60.0


def local_files(model_dir: str) -> list[Path]:
    """What every node must see of a model: its configuration where it is a directory, nothing where it is a hub id."""
    config = Path(model_dir) / "config.json"
    return [config] if config.is_file() else []


def check_shared(directories: Sequence[Path], files: Sequence[Path], nodes: Sequence[Node]) -> None:
    """Has every other node read a file that is written here into each directory, and `files`, and name its rlvr.

    RlvrError names the nodes that cannot, and the remedy.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in nodes if node.id != here]
    if not others:
        return
    token = secrets.token_hex(8)
    probes = [directory.resolve() / f".seen-by-all-nodes-{token}" for directory in directories]
    expected = {str(probe): token for probe in probes} | {str(file.resolve()): file.read_text() for file in files}
    task = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {}
    try:
        for probe in probes:
            probe.write_text(token)
        for node in others:
            strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
            asked[task.options(scheduling_strategy=strategy).remote(expected)] = node
        done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=DEADLINE_S)
        faults = [f"{asked[ref].address}: no answer in {DEADLINE_S:.0f} s" for ref in silent]
        faults += [fault for ref in done for fault in _faults(asked[ref], ref)]
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)
    if faults:
        raise RlvrError(
            "resources.ray_address: not every node of the cluster can take part:\n  "
            + "\n  ".join(faults)
            + "\nRanks and engines read the model from these directories, ranks write checkpoints there: put runs_dir "
            "and model.path on a file system that all nodes mount at the same path, with the same rlvr installed"
        )


def _look(expected: dict[str, str]) -> tuple[str, list[str]]:
    """On a node: its version of rlvr, and the directories of the files that it does not read as expected."""
    unseen = []
    for name, text in expected.items():
        try:
            seen = Path(name).read_text() == text
        except OSError:
            seen = False
        unseen += [] if seen else [str(Path(name).parent)]
    return __version__, unseen


def _faults(node: Node, ref: ray.ObjectRef) -> list[str]:
    try:
        version, unseen = ray.get(ref)
    except ray.exceptions.RayError as error:
        return [f"{node.address}: {' '.join(str(error).split())[:500]}"]
    faults = [f"{node.address}: does not see {directory}" for directory in unseen]
    return faults + (
        [f"{node.address}: has rlvr {version}, the driver {__version__}"] if version != __version__ else []
    )
