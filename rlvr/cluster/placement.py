"""Which actor gets which GPUs; infeasible demands fail here, with the arithmetic, before anything waits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rlvr.cluster.environment import tensor_parallel_environment
from rlvr.cluster.layout import Demand, Layout, Node, lay_out, nearest, spread_on_cpu
from rlvr.errors import RecipeError, WorkerDied
from rlvr.recipe.resources import ResourcesConfig

NODE_ID_LABEL = "ray.io/node-id"
SHARE = 0.5  # of a GPU, for the engine and the rank that share it


@dataclass(frozen=True, slots=True)
class Placement:
    """The device, the nodes, and extra Ray options for each engine and each learner rank.

    `engine_environments[i]` holds environment variables of engine i beyond those of every engine.
    """

    device: str
    engine_options: list[dict[str, Any]] = field(default_factory=list)
    learner_options: list[dict[str, Any]] = field(default_factory=list)
    engine_environments: list[dict[str, str]] = field(default_factory=list)
    nodes: tuple[Node, ...] = ()
    group: PlacementGroup | None = None

    def release(self) -> None:
        """Gives the GPUs back; a cluster that outlives the run would else keep them."""
        if self.group is not None:
            remove_placement_group(self.group)


def plan_placement(resources: ResourcesConfig, side: Sequence[tuple[str, float]] = ()) -> Placement:
    """Claims GPUs in one placement group that says which bundle is on which node; on CPU names each actor's node.

    `side` holds (name, GPUs of a process) of the processes beside engines and learners: they are counted, and take
    what is left. On CPU actors share the cores, since the phases of a step alternate.

    Raises RecipeError when the cluster cannot hold the demand, WorkerDied when it does not grant it by the deadline.
    """
    nodes = cluster_nodes()
    device = resources.device
    if device == "auto":
        device = "cuda" if any(node.gpus for node in nodes) else "cpu"
    demand = demand_of(resources, side if device == "cuda" else ())
    return _on_gpus(resources, demand, nodes) if device == "cuda" else _on_cpu(resources, demand, nodes)


def check_local(resources: ResourcesConfig, side: Sequence[tuple[str, float]] = ()) -> None:
    """RecipeError where the GPUs of this machine cannot hold what is said to run on GPUs; before Ray is started."""
    if resources.device != "cuda":
        return
    import torch

    demand, here = demand_of(resources, side), [Node("", "this machine", torch.cuda.device_count())]
    if lay_out(replace(demand, engine_labels={}, learner_labels={}), here) is None:
        raise RecipeError(infeasible(demand, here))


def cluster_nodes() -> list[Node]:
    """The live nodes with what they have in all; that of the driver first."""
    here = ray.get_runtime_context().get_node_id()
    found = [
        Node(
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            gpus=int(node["Resources"].get("GPU", 0)),
            cpus=node["Resources"].get("CPU", 0.0),
            labels=node.get("Labels") or {},
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.id != here, node.address))


def demand_of(resources: ResourcesConfig, side: Sequence[tuple[str, float]] = ()) -> Demand:
    """What the section asks for, as arithmetic knows it."""
    return Demand(
        engines=resources.engines.count,
        learners=resources.learners.count,
        tensor_parallel=resources.engines.tensor_parallel,
        colocated=resources.placement == "colocated",
        engine_labels=resources.engines.node_labels,
        learner_labels=resources.learners.node_labels,
        side=tuple(side),
    )


def infeasible(demand: Demand, nodes: Sequence[Node]) -> str:
    """Why the nodes' GPUs do not hold the demand: asked, present, missing, and what would fit."""
    present = sum(node.gpus for node in nodes)
    if not present:
        where = ", ".join(node.address for node in nodes)
        return (
            f"resources.device=cuda: Ray sees no GPU on {where}; look at nvidia-smi there and at CUDA_VISIBLE_DEVICES, "
            "or set resources.device=cpu"
        )
    missing = demand.gpus - present
    lacking = (
        f"{missing:g} missing"
        if missing > 0
        else f"enough in all, but an engine takes {demand.tensor_parallel} of one node, or labels leave too few"
    )
    shapes = nearest(demand, nodes)
    fits = f"What fits: {'; or '.join(shapes)}" if shapes else "Ask for less, or add nodes"
    return (
        f"resources: asks for {demand.gpus:g} GPUs ({_asked(demand)}), the cluster has {present} "
        f"({_present(nodes)}): {lacking}. {fits}"
    )


def _asked(demand: Demand) -> str:
    parts = [f"{demand.engines} engines x {demand.tensor_parallel}"]
    parts[0] += f" shared with {demand.learners} learner ranks" if demand.colocated else ""
    parts += [] if demand.colocated else [f"{demand.learners} learner ranks"]
    counts: dict[tuple[str, float], int] = {}
    for process in demand.side:
        counts[process] = counts.get(process, 0) + 1
    parts += [f"{count} x {gpus:g} for {name}" for (name, gpus), count in counts.items()]
    return " + ".join(parts)


def _present(nodes: Sequence[Node]) -> str:
    shown = [f"{node.address}: {node.gpus}" for node in nodes[:16]]
    return ", ".join(shown) + (f", ... {len(nodes)} nodes" if len(nodes) > len(shown) else "")


def _check_labels(demand: Demand, nodes: Sequence[Node]) -> None:
    for key, labels in (("engines", demand.engine_labels), ("learners", demand.learner_labels)):
        if labels and not any(labels.items() <= dict(node.labels).items() for node in nodes):
            present = "; ".join(f"{node.address}: {dict(node.labels)}" for node in nodes[:8])
            raise RecipeError(
                f"resources.{key}.node_labels={labels}: no node of the cluster has them ({present}); start nodes with "
                "`ray start --labels key=value`, or name labels that they have"
            )


def _on_gpus(resources: ResourcesConfig, demand: Demand, nodes: list[Node]) -> Placement:
    _check_labels(demand, nodes)
    # What is free now is taken first; what others hold may be given back before the deadline.
    layout = lay_out(demand, nodes, _free(nodes)) or lay_out(demand, nodes)
    if layout is None:
        raise RecipeError(infeasible(demand, nodes))
    group = placement_group(
        [{"GPU": 1.0}] * len(layout.nodes),
        strategy="PACK",
        bundle_label_selector=[{NODE_ID_LABEL: node_id} for node_id in layout.nodes],
    )
    if not group.wait(resources.start_timeout_s):
        remove_placement_group(group)
        free = _free(nodes)
        shown = ", ".join(f"{node.address}: {free[node.id]} of {node.gpus}" for node in nodes[:16])
        raise WorkerDied(
            f"placement: {len(layout.nodes)} GPUs ({_asked(demand)}) were not given back by others within "
            f"{resources.start_timeout_s:.0f} s (resources.start_timeout_s); free now: {shown}. "
            "Look at `ray status`"
        )
    share = SHARE if demand.colocated else 1.0
    engines, environments = _engine_options(layout, group, share)
    learners = [_in_bundle(group, bundle, share) for bundle in layout.learners]
    return Placement("cuda", engines, learners, environments, tuple(nodes), group)


def _engine_options(
    layout: Layout, group: PlacementGroup, share: float
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """An engine of one GPU holds it itself; one of several has vLLM put a worker into each of its bundles."""
    options, environments = [], []
    for bundles in layout.engines:
        alone = len(bundles) == 1
        options.append(_in_bundle(group, bundles[0], share if alone else 0.0))
        environments.append({} if alone else tensor_parallel_environment(bundles, share))
    return options, environments


def _in_bundle(group: PlacementGroup, bundle: int, gpus: float) -> dict[str, Any]:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    return {"num_gpus": gpus, "num_cpus": 0, "scheduling_strategy": strategy}


def _on_cpu(resources: ResourcesConfig, demand: Demand, nodes: list[Node]) -> Placement:
    engines, learners = resources.engines, resources.learners
    if engines.tensor_parallel > 1:
        raise RecipeError(
            f"resources.engines.tensor_parallel={engines.tensor_parallel}: on CPU an engine is one process; "
            "set it to 1 and raise resources.engines.count"
        )
    _check_labels(demand, nodes)
    for key, count, threads in (
        ("engines", engines.count, engines.threads),
        ("learners", learners.count, learners.threads),
    ):
        _check_cores(key, count, threads, nodes)
    if len(nodes) == 1:
        options: list[dict[str, Any]] = [{} for _ in range(engines.count + learners.count)]
    else:
        on_engines, on_ranks = spread_on_cpu(demand, nodes, learners.threads)
        options = [
            {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
            for node_id in (*on_engines, *on_ranks)
        ]
    environments: list[dict[str, str]] = [{} for _ in range(engines.count)]
    return Placement("cpu", options[: engines.count], options[engines.count :], environments, tuple(nodes))


def _check_cores(key: str, count: int, threads: int, nodes: Sequence[Node]) -> None:
    """Several threads of a process that share a core slow each other down tenfold; single ones take turns."""
    cores = sum(node.cpus for node in nodes)
    largest = max(node.cpus for node in nodes)
    if threads == 1 or (threads <= largest and count * threads <= cores):
        return
    fits = max(1, math.floor(min(largest, cores / count)))
    raise RecipeError(
        f"resources.{key}.threads={threads}: {count} processes x {threads} threads compute at a time and ask for "
        f"{count * threads} cores, the cluster has {cores:g} ({_cores(nodes)}): {count * threads - cores:g} missing. "
        f"What fits: resources.{key}.threads={fits}"
        if count * threads > cores
        else f"resources.{key}.threads={threads}: the largest node has {largest:g} cores ({_cores(nodes)}). "
        f"What fits: resources.{key}.threads={fits}"
    )


def _cores(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{node.address}: {node.cpus:g}" for node in nodes[:16])


def _free(nodes: Sequence[Node]) -> dict[str, int]:
    """The GPUs of each node, by its id, that nobody has claimed."""
    # TODO(a public way to what is free on each node): use it.
    free: Mapping[str, Mapping[str, float]] = ray._private.state.available_resources_per_node()
    return {node.id: int(free.get(node.id, {}).get("GPU", 0)) for node in nodes}
