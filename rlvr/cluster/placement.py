"""Which actor gets which GPUs; infeasible demands fail here, with the arithmetic, before anything waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlvr.errors import RecipeError, WorkerDied
from rlvr.recipe.arithmetic import gpu_demand
from rlvr.recipe.schema import ResourcesConfig


@dataclass(frozen=True, slots=True)
class Placement:
    """The device, and extra Ray options for each engine and each learner rank."""

    device: str
    engine_options: list[dict[str, Any]] = field(default_factory=list)
    learner_options: list[dict[str, Any]] = field(default_factory=list)


def plan_placement(resources: ResourcesConfig) -> Placement:
    """Claims GPUs in one placement group; on CPU actors share the cores, since the phases of a step alternate.

    Raises RecipeError when the cluster has too few GPUs, WorkerDied when they are not granted by the deadline.
    """
    present = int(ray.cluster_resources().get("GPU", 0))
    device = resources.device if resources.device != "auto" else ("cuda" if present else "cpu")
    engines, learners = resources.engines, resources.learners
    if device == "cpu":
        if engines.tensor_parallel > 1:
            raise RecipeError(
                f"resources.engines.tensor_parallel={engines.tensor_parallel}: on CPU an engine is one process; "
                "set it to 1 and raise resources.engines.count"
            )
        return Placement("cpu", [{} for _ in range(engines.count)], [{} for _ in range(learners.count)])
    needed = gpu_demand(resources)[-1]
    if needed > present:
        raise RecipeError(
            f"resources: asks for {needed} GPUs ({engines.count} engines x {engines.tensor_parallel} "
            f"{'shared with' if resources.placement == 'colocated' else '+'} {learners.count} learner ranks), the "
            f"cluster has {present}: {needed - present} missing. Lower resources.engines.count, "
            "resources.engines.tensor_parallel or resources.learners.count, or use placement=colocated"
        )
    if resources.placement == "colocated":
        return _colocated(resources)
    return Placement(
        "cuda",
        [{"num_gpus": engines.tensor_parallel} for _ in range(engines.count)],
        [{"num_gpus": 1} for _ in range(learners.count)],
    )


def _colocated(resources: ResourcesConfig) -> Placement:
    engines, learners = resources.engines, resources.learners
    if engines.tensor_parallel > 1:
        raise RecipeError(
            f"resources.engines.tensor_parallel={engines.tensor_parallel}: colocated engines take one GPU each; set "
            "it to 1, or use placement=separate"
        )
    bundles = [{"GPU": 1.0, "CPU": 1.0}] * gpu_demand(resources)[-1]
    group = placement_group(bundles, strategy="PACK")
    if not group.wait(resources.start_timeout_s):
        raise WorkerDied(
            f"placement: {len(bundles)} GPUs were not free within {resources.start_timeout_s:.0f} s; "
            "look at `ray status`"
        )

    def bundle(index: int) -> dict[str, Any]:
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        return {"num_gpus": 0.5, "num_cpus": 0.5, "scheduling_strategy": strategy}

    return Placement("cuda", [bundle(i) for i in range(engines.count)], [bundle(i) for i in range(learners.count)])
