"""Starting groups, configurations, weights: what the learner's tests do again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

from rlvr.learner.group import LearnerGroup
from rlvr.metrics import means
from rlvr.recipe.schema import LearnerConfig, LearnerResources, ObjectiveConfig, OptimizerConfig, ResourcesConfig
from rlvr.transfer.buckets import plan_buckets, unpack

VOCABULARY = 40
Weights = dict[str, np.ndarray]


def start_group(count: int, step_timeout_s: float = 120.0) -> LearnerGroup:
    resources = ResourcesConfig(learners=LearnerResources(count=count), step_timeout_s=step_timeout_s)
    group = LearnerGroup(resources, "cpu")
    group.start()
    return group


def config(**settings: object) -> LearnerConfig:
    """lr 1e-4, AdamW, float32 unless told otherwise."""
    settings.setdefault("optimizer", OptimizerConfig(lr=1e-4))
    return LearnerConfig(**settings)


def inside(group: LearnerGroup, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """function(worker, *arguments) in the process of each rank, where test modules cannot be imported."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
    return ray.get([w.__ray_call__.remote(function, *arguments) for w in group.workers], timeout=120)


def weights_of(group: LearnerGroup) -> Weights:
    """All weights by name, by the path that a weight transfer takes."""
    found: Weights = {}
    for bucket in plan_buckets(group.parameter_specs(), "float32", 64 << 10):
        buffer = ray.get(group.gather_bucket(bucket)[0], timeout=60)
        found |= {name: tensor.numpy().copy() for name, tensor in unpack(bucket, buffer)}
    return found


def run_steps(group: LearnerGroup, batches: list, objective: ObjectiveConfig | None = None, **options: object) -> list:
    """Mean metrics of one train_rl per batch."""
    settings = {"temperature": 1.0, "max_completion_tokens": 64, "shuffle_seed": 0} | options
    return [means(group.train_rl(batch, objective or ObjectiveConfig(), **settings)) for batch in batches]


def same(a: Weights, b: Weights) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def distance(a: Weights, b: Weights) -> float:
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def check_resume(group: LearnerGroup, model_dir: str, learner: LearnerConfig, batches: list, directory: Path) -> None:
    """Two steps, save, two more; and again from what was saved, in an engine built anew: no bit differs."""
    group.setup(model_dir, learner, 4, 0, reference=False)
    run_steps(group, batches[:2])
    group.save(directory)
    saved = weights_of(group)
    first = run_steps(group, batches[2:])
    expected = weights_of(group)
    group.setup(model_dir, learner, 4, 0, reference=False)
    group.load(directory)
    assert same(weights_of(group), saved)
    assert run_steps(group, batches[2:]) == first
    assert same(weights_of(group), expected)
