"""How many nodes a recipe needs, and what it asks of each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from rlvr.errors import RecipeError
from rlvr.recipe.arithmetic import gpu_demand, side_processes
from rlvr.recipe.schema import Recipe

CPUS_PER_GPU, MEMORY_GB_PER_GPU = 12, 120
CPUS_WITHOUT_GPU, MEMORY_GB_WITHOUT_GPU = 2, 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes, and what is asked of each: GPUs, CPU cores, GB of memory. All nodes are alike."""

    nodes: int
    gpus: int
    cpus: int
    memory_gb: int


def shape_of(recipe: Recipe) -> Shape:
    """The nodes that the recipe's GPUs fill, or those that `launch.nodes` asks for.

    RecipeError where those have too few GPUs, or an engine has more GPUs than a node.
    """
    launch, resources = recipe.launch, recipe.resources
    # `auto` takes GPUs where there are any: a recipe for machines without them says cpu.
    demand = 0 if resources.device == "cpu" else _gpus(recipe)
    nodes = launch.nodes or max(1, ceil(demand / launch.gpus_per_node))
    if demand > nodes * launch.gpus_per_node:
        raise RecipeError(
            f"launch.nodes={nodes}: the recipe asks for {demand} GPUs, {nodes} x launch.gpus_per_node="
            f"{launch.gpus_per_node} are {nodes * launch.gpus_per_node}: {demand - nodes * launch.gpus_per_node} "
            f"missing. Raise launch.nodes to {ceil(demand / launch.gpus_per_node)} (or leave it out), or ask for fewer "
            "engines or learners"
        )
    # Full nodes where there are several, so that the GPUs of an engine never lie on two of them for want of one.
    gpus = 0 if not demand else demand if nodes == 1 else launch.gpus_per_node
    cpus = launch.cpus_per_node or (CPUS_PER_GPU * gpus or CPUS_WITHOUT_GPU)
    memory_gb = launch.memory_gb_per_node or (MEMORY_GB_PER_GPU * gpus or MEMORY_GB_WITHOUT_GPU)
    return Shape(nodes, gpus, cpus, memory_gb)


def _gpus(recipe: Recipe) -> int:
    beside = sum(gpus for _, gpus in side_processes(recipe.stages))
    return gpu_demand(recipe.resources)[-1] + ceil(beside)
