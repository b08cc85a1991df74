"""Rules of the resources section that need no cluster."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.resources import ResourcesConfig

Fault = tuple[tuple[str, ...], object, str]
"""(path below `resources`, the value there, what is wrong and what to do)."""


def resource_faults(resources: ResourcesConfig, engine: str) -> Iterator[Fault]:
    """Every broken rule; `engine` is what generates (rollout.engine)."""
    engines, learners = resources.engines, resources.learners
    colocated = resources.placement == "colocated"
    if resources.device == "cpu" and colocated:
        yield ("placement",), "colocated", "CPU workers share no device; use separate"
    if resources.device == "cpu" and engines.tensor_parallel > 1:
        yield ("engines", "tensor_parallel"), engines.tensor_parallel, "needs GPUs; use 1"
    if engine != "vllm" and engines.tensor_parallel > 1:
        yield ("engines", "tensor_parallel"), engines.tensor_parallel, f"only vLLM has it, not {engine}; use 1"
    if colocated and engines.count * engines.tensor_parallel != learners.count:
        yield (
            ("learners", "count"),
            learners.count,
            f"colocated engines and learners share their GPUs: engines take {engines.count} x "
            f"{engines.tensor_parallel} = {engines.count * engines.tensor_parallel}; make both equal",
        )
    if colocated and engines.node_labels != learners.node_labels:
        text = f"colocated engines and learners share their nodes; engines say {engines.node_labels}: make both equal"
        yield ("learners", "node_labels"), learners.node_labels, text
    yield from _transfer(resources, engine)
    if resources.ports and resources.ports[0] > resources.ports[1]:
        first, last = resources.ports
        yield ("ports",), [first, last], f"the first is above the last; write [{last}, {first}]"


def _transfer(resources: ResourcesConfig, engine: str) -> Iterator[Fault]:
    transfer, colocated = resources.transfer, resources.placement == "colocated"
    if transfer in ("auto", "host"):
        return
    if resources.device == "cpu" or engine != "vllm":
        yield ("transfer",), transfer, "needs vLLM engines on GPUs; use auto or host"
    elif transfer == "ipc" and not colocated:
        yield ("transfer",), transfer, "memory is shared on the same GPU only; use nccl, or placement=colocated"
    elif transfer == "nccl" and colocated:
        yield ("transfer",), transfer, "NCCL refuses two members on one GPU; use ipc, or placement=separate"
