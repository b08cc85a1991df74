"""Which GPU or node hosts what: pure arithmetic over nodes, without Ray.

An engine is a tensor-parallel group of GPUs of one node (of several only where no node has as many), learner ranks
fill as few nodes as they can, models beside the policy take what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: what Ray knows of it. `gpus` and `cpus` are whole devices and cores."""

    id: str
    address: str
    gpus: int = 0
    cpus: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks for. `side` holds (name, GPUs of one process) of every process beside engines and learners."""

    engines: int
    learners: int
    tensor_parallel: int = 1
    colocated: bool = False
    engine_labels: Mapping[str, str] = field(default_factory=dict)
    learner_labels: Mapping[str, str] = field(default_factory=dict)
    side: tuple[tuple[str, float], ...] = ()

    @property
    def engine_gpus(self) -> int:
        return self.engines * self.tensor_parallel

    @property
    def shared_gpus(self) -> int:
        """GPUs of engines and learners together."""
        return max(self.engine_gpus, self.learners) if self.colocated else self.engine_gpus + self.learners

    @property
    def gpus(self) -> float:
        return self.shared_gpus + sum(gpus for _, gpus in self.side)


@dataclass(frozen=True, slots=True)
class Layout:
    """One bundle per GPU of engines and learners; `nodes[b]` is the id of the node that bundle b is on.

    `engines[i]` are the bundles of engine i in the order of its ranks, `learners[r]` is the bundle of rank r.
    """

    nodes: tuple[str, ...]
    engines: tuple[tuple[int, ...], ...]
    learners: tuple[int, ...]


def lay_out(demand: Demand, nodes: Sequence[Node], free: Mapping[str, int] | None = None) -> Layout | None:
    """The layout on these nodes' GPUs, or None where they do not suffice.

    `free` is the number of GPUs that may be taken of each node, by its id; None: all of them.
    """
    if demand.colocated:
        return _colocated(demand, _Gpus(nodes, free))
    return _separate(demand, _Gpus(nodes, free), True) or _separate(demand, _Gpus(nodes, free), False)


def spread_on_cpu(demand: Demand, nodes: Sequence[Node], threads: int) -> tuple[list[str], list[str]]:
    """Node ids of the engines and of the learner ranks on CPU; of a rank with `threads` OpenMP threads.

    Ranks fill one node after the other as far as its cores go, then share; engines take the nodes in turn, those
    without ranks first. `nodes` are in order of preference. Empty lists where no node has the labels.
    """
    for_ranks, for_engines = (_labelled(nodes, labels) for labels in (demand.learner_labels, demand.engine_labels))
    ranks: list[str] = []
    for node in for_ranks:
        ranks += [node.id] * max(0, min(demand.learners - len(ranks), int(node.cpus // threads)))
    ranks += [for_ranks[i % len(for_ranks)].id for i in range(demand.learners - len(ranks))] if for_ranks else []
    order = sorted(for_engines, key=lambda node: ranks.count(node.id))
    return [order[i % len(order)].id for i in range(demand.engines)] if order else [], ranks


def nearest(demand: Demand, nodes: Sequence[Node]) -> list[str]:
    """Changes of the recipe with which it fits, as overrides; those that give up the fewest GPUs first."""

    def fits(candidate: Demand) -> bool:
        return lay_out(candidate, nodes) is not None

    found: list[Demand] = []
    tp = demand.tensor_parallel
    for size in (size for size in range(tp, 0, -1) if tp % size == 0):
        found += [fit for limit, family in _families(demand, size) if (fit := _largest(limit, family, fits))]
        if found:
            break
    if not demand.colocated:
        found += filter(fits, [replace(demand, colocated=True, learners=demand.engine_gpus)])
        for size in (tp, 1):
            if not found:
                found += filter(None, [_largest(*_smaller(demand, size), fits)])
    by_gpus = sorted(found, key=lambda candidate: -candidate.gpus)
    return list(dict.fromkeys(_overrides(demand, candidate) for candidate in by_gpus))[:3]


def _families(demand: Demand, size: int) -> list[tuple[int, Callable[[int], Demand]]]:
    """Ways to ask for less with engines of `size` GPUs: (largest number to try, number -> demand)."""
    changed = replace(demand, tensor_parallel=size)
    if demand.colocated:
        return [(demand.engine_gpus // size, lambda n: replace(changed, engines=n, learners=n * size))]
    return [
        (demand.engines, lambda n: replace(changed, engines=n)),
        (demand.learners, lambda n: replace(changed, learners=n)),
    ]


def _smaller(demand: Demand, size: int) -> tuple[int, Callable[[int], Demand]]:
    """The family in which engines and ranks shrink alike."""
    engines, learners = demand.engines, demand.learners
    most = max(engines, learners)

    def shrunk(n: int) -> Demand:
        fewer = replace(demand, engines=max(1, engines * n // most), learners=max(1, learners * n // most))
        return replace(fewer, tensor_parallel=size)

    return most, shrunk


def _largest(limit: int, family: Callable[[int], Demand], fits: Callable[[Demand], bool]) -> Demand | None:
    """That of 1..limit which still fits, by bisection: what fits with n fits with n - 1."""
    low, high = 0, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(family(middle)) else (low, middle)
    return family(low) if low else None


def _overrides(before: Demand, after: Demand) -> str:
    """What turns one demand into the other, as the command line takes it."""
    values = {
        "resources.placement": ("colocated" if after.colocated else "separate", after.colocated != before.colocated),
        "resources.engines.tensor_parallel": (after.tensor_parallel, after.tensor_parallel != before.tensor_parallel),
        "resources.engines.count": (after.engines, after.engines != before.engines),
        "resources.learners.count": (after.learners, after.learners != before.learners),
    }
    return " ".join(f"{key}={value}" for key, (value, changes) in values.items() if changes)


class _Gpus:
    """The GPUs that are still free, by node; claiming one opens a bundle."""

    def __init__(self, nodes: Sequence[Node], free: Mapping[str, int] | None) -> None:
        self.nodes = nodes
        self.free = {node.id: node.gpus if free is None else free.get(node.id, 0) for node in nodes}
        self.bundles: list[str] = []

    def claim(self, node_id: str, count: int) -> tuple[int, ...]:
        self.free[node_id] -= count
        start = len(self.bundles)
        self.bundles += [node_id] * count
        return tuple(range(start, start + count))

    def groups(self, count: int, size: int, labels: Mapping[str, str], tightest: bool) -> list[tuple[int, ...]] | None:
        """`count` groups of `size` GPUs each on one node: on the fullest node that has room, or on the emptiest."""
        allowed = _labelled(self.nodes, labels)
        groups: list[tuple[int, ...]] = []
        spans = size > max((node.gpus for node in allowed), default=0)
        for _ in range(count):
            if spans:
                group = self._over_nodes(size, allowed)
            else:
                roomy = [node for node in allowed if self.free[node.id] >= size]
                if tightest:
                    roomy.sort(key=lambda node: self.free[node.id])
                elif groups:
                    # Where the last group is, as long as there is room: few nodes, whole ones.
                    last = self.bundles[groups[-1][0]]
                    roomy.sort(key=lambda node: (node.id != last, -self.free[node.id]))
                else:
                    roomy.sort(key=lambda node: -self.free[node.id])
                group = self.claim(roomy[0].id, size) if roomy else None
            if group is None:
                return None
            groups.append(group)
        return groups

    def _over_nodes(self, size: int, allowed: Sequence[Node]) -> tuple[int, ...] | None:
        """A group over as few nodes as have it, an equal share of each where that works out."""
        by_room = sorted(allowed, key=lambda node: -self.free[node.id])
        if sum(self.free[node.id] for node in allowed) < size:
            return None
        for num_nodes in range(1, len(by_room) + 1):
            share, rest = divmod(size, num_nodes)
            if not rest and all(self.free[node.id] >= share for node in by_room[:num_nodes]):
                return tuple(b for node in by_room[:num_nodes] for b in self.claim(node.id, share))
        group: tuple[int, ...] = ()
        for node in by_room:
            group += self.claim(node.id, min(self.free[node.id], size - len(group)))
        return group

    def hold(self, side: Iterable[tuple[str, float]]) -> bool:
        """Whether the processes beside fit into what is free: whole GPUs of one node, or a share of a single GPU."""
        shares: list[float] = []  # what is left of GPUs that are shared
        for _, gpus in sorted(side, key=lambda entry: -entry[1]):
            if gpus < 1 and any(left >= gpus for left in shares):
                index = next(i for i, left in enumerate(shares) if left >= gpus)
                shares[index] -= gpus
                continue
            whole = -int(-gpus // 1)
            roomy = sorted((n for n in self.nodes if self.free[n.id] >= whole), key=lambda node: self.free[node.id])
            if not roomy:
                return False
            self.free[roomy[0].id] -= whole
            if gpus < 1:
                shares.append(1 - gpus)
        return True


def _separate(demand: Demand, gpus: _Gpus, learners_first: bool) -> Layout | None:
    learners = gpus.groups(demand.learners, 1, demand.learner_labels, tightest=False) if learners_first else None
    engines = gpus.groups(demand.engines, demand.tensor_parallel, demand.engine_labels, tightest=True)
    if not learners_first:
        learners = gpus.groups(demand.learners, 1, demand.learner_labels, tightest=False)
    if engines is None or learners is None or not gpus.hold(demand.side):
        return None
    return Layout(tuple(gpus.bundles), tuple(engines), tuple(bundle for (bundle,) in learners))


def _colocated(demand: Demand, gpus: _Gpus) -> Layout | None:
    """Rank r learns on the r-th GPU of the engines; the rules demand as many ranks as engine GPUs."""
    labels = {**demand.engine_labels, **demand.learner_labels}
    engines = gpus.groups(demand.engines, demand.tensor_parallel, labels, tightest=False)
    if engines is None or not gpus.hold(demand.side):
        return None
    shared = [bundle for group in engines for bundle in group]
    return Layout(tuple(gpus.bundles), tuple(engines), tuple(shared[: demand.learners]))


def _labelled(nodes: Sequence[Node], labels: Mapping[str, str]) -> list[Node]:
    return [node for node in nodes if all(node.labels.get(key) == value for key, value in labels.items())]
