"""Where engines, ranks and side models go, worked out by hand (R22)."""

import pytest

from rlvr.cluster.layout import Demand, Node, lay_out, nearest, spread_on_cpu


def nodes(*gpus: int, cpus: float = 64, **labels: str) -> list[Node]:
    return [Node(f"n{i}", f"10.0.0.{i}", count, cpus, labels) for i, count in enumerate(gpus)]


def hosts(layout, bundles):
    return {layout.nodes[bundle] for bundle in bundles}


@pytest.mark.parametrize(
    ("demand", "cluster"),
    [
        (Demand(engines=1, learners=1, colocated=True), nodes(1)),
        (Demand(engines=2, learners=4, tensor_parallel=2), nodes(8)),
        (Demand(engines=8, learners=32, tensor_parallel=4), nodes(*[8] * 8)),
        (Demand(engines=64, learners=256, tensor_parallel=4), nodes(*[8] * 64)),
        (Demand(engines=64, learners=512, tensor_parallel=8, colocated=True), nodes(*[8] * 64)),
    ],
)
def test_every_gpu_is_claimed_once_and_engines_stay_within_a_node(demand, cluster):
    layout = lay_out(demand, cluster)
    assert len(layout.nodes) == demand.shared_gpus
    for node in cluster:
        assert layout.nodes.count(node.id) <= node.gpus
    assert len(layout.engines) == demand.engines
    assert len(set(layout.learners)) == len(layout.learners) == demand.learners
    used = [bundle for group in layout.engines for bundle in group]
    assert len(set(used)) == len(used) == demand.engine_gpus
    assert all(len(hosts(layout, group)) == 1 for group in layout.engines)
    if demand.colocated:
        assert set(used) == set(layout.learners)
    else:
        assert not set(used) & set(layout.learners)


def test_ranks_fill_as_few_nodes_as_they_can_and_neighbours_are_neighbours():
    # 12 ranks and 3 engines of 4 on three nodes of 8: 8 + 4 ranks, the engines 4 + 8 beside and behind them.
    layout = lay_out(Demand(engines=3, learners=12, tensor_parallel=4), nodes(8, 8, 8))
    on = [layout.nodes[bundle] for bundle in layout.learners]
    assert [on.count(f"n{i}") for i in range(3)] == [8, 4, 0]
    assert on == sorted(on)


def test_engines_go_first_where_ranks_would_break_the_nodes_up():
    # Ranks first leave 1 + 7 GPUs, room for one engine of 4; engines first leave 3 + 3 for the six ranks.
    layout = lay_out(Demand(engines=2, learners=6, tensor_parallel=4), nodes(7, 7))
    assert [hosts(layout, group) for group in layout.engines] == [{"n0"}, {"n1"}]
    assert sorted(layout.nodes) == ["n0"] * 7 + ["n1"] * 7


def test_an_engine_spans_nodes_only_where_none_has_as_many_gpus():
    spanning = lay_out(Demand(engines=1, learners=8, tensor_parallel=16), nodes(8, 8, 8))
    assert [spanning.nodes.count(n) for n in hosts(spanning, spanning.engines[0])] == [8, 8]
    # Two nodes of 6: an engine of 8 takes 4 of each, in rank order.
    even = lay_out(Demand(engines=1, learners=1, tensor_parallel=8), nodes(6, 6))
    assert [even.nodes[bundle] for bundle in even.engines[0]] in (
        [*["n0"] * 4, *["n1"] * 4],
        [*["n1"] * 4, *["n0"] * 4],
    )
    # Here 8 fit on a node, which others hold half of: it waits for that and does not spread.
    assert lay_out(Demand(engines=1, learners=1, tensor_parallel=8), nodes(8, 8), {"n0": 5, "n1": 5}) is None


def test_side_models_take_what_is_left():
    cluster = nodes(8)
    shares = (("judge", 0.5), ("critic", 1.0), ("reward", 0.5))
    assert lay_out(Demand(engines=2, learners=4, side=shares), cluster)  # 2 + 4 + 1 and two halves of one GPU
    assert not lay_out(Demand(engines=2, learners=5, side=shares), cluster)
    # 4 + 4 are left in all, but a judge of 6 needs one node.
    assert not lay_out(Demand(engines=4, learners=4, side=(("judge", 6.0),)), nodes(8, 4, 4))


def test_labels_confine_engines_and_ranks():
    mixed = [Node("a", "a", 8, labels={"pool": "a"}), Node("b", "b", 8, labels={"pool": "b"})]
    layout = lay_out(Demand(4, 4, engine_labels={"pool": "a"}, learner_labels={"pool": "b"}), mixed)
    assert hosts(layout, layout.learners) == {"b"}
    assert {node for group in layout.engines for node in hosts(layout, group)} == {"a"}
    assert lay_out(Demand(9, 4, engine_labels={"pool": "a"}, learner_labels={"pool": "b"}), mixed) is None


def test_the_nearest_shapes_fit_and_are_named_as_overrides():
    assert nearest(Demand(engines=2, learners=4, tensor_parallel=4), nodes(8)) == [
        "resources.engines.count=1",
        "resources.placement=colocated resources.learners.count=8",
    ]
    # 512 GPUs asked of 64: engines of 4 and ranks shrink alike, 8 x 4 + 32.
    assert nearest(Demand(engines=64, learners=256, tensor_parallel=4), nodes(*[8] * 8)) == [
        "resources.engines.count=8 resources.learners.count=32"
    ]
    assert nearest(Demand(engines=4, learners=16, tensor_parallel=4, colocated=True), nodes(8)) == [
        "resources.engines.count=2 resources.learners.count=8"
    ]
    assert nearest(Demand(engines=1, learners=1), nodes(0)) == []


def test_on_cpu_ranks_fill_nodes_by_their_cores_and_engines_take_the_others_first():
    cluster = [Node("a", "a", cpus=4), Node("b", "b", cpus=4), Node("c", "c", cpus=4)]
    engines, ranks = spread_on_cpu(Demand(engines=3, learners=3), cluster, threads=2)
    assert ranks == ["a", "a", "b"]
    assert engines == ["c", "b", "a"]
    # More ranks than cores: they share in turn.
    assert spread_on_cpu(Demand(engines=1, learners=5), cluster[:1], threads=1)[1] == ["a"] * 5
    labelled = [Node("x", "x", cpus=2, labels={"role": "learn"}), Node("y", "y", cpus=2, labels={"role": "decode"})]
    demand = Demand(2, 2, engine_labels={"role": "decode"}, learner_labels={"role": "learn"})
    assert spread_on_cpu(demand, labelled, 1) == (["y", "y"], ["x", "x"])
