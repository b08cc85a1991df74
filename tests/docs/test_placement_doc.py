"""docs/placement.md: its shapes are laid out, its messages are those that are printed."""

import re
from pathlib import Path

import yaml

from rlvr.cluster.layout import Demand, Node, lay_out
from rlvr.cluster.placement import demand_of, infeasible
from rlvr.recipe.resource_rules import resource_faults
from rlvr.recipe.resources import ResourcesConfig

PAGE = (Path(__file__).parents[2] / "docs" / "placement.md").read_text()


def test_the_shapes_of_the_table_fill_their_nodes():
    rows = re.findall(r"^\| (\d+) \| (\d+) x (\d+) \| `(\{.*\})` \| (.*) \|$", PAGE, re.MULTILINE)
    assert {int(row[0]) for row in rows} == {1, 8, 64, 512}
    for gpus, count, size, section, said in rows:
        resources = ResourcesConfig.model_validate(yaml.safe_load(section))
        assert list(resource_faults(resources, "vllm")) == []
        nodes = [Node(f"n{i}", f"10.0.0.{i}", int(size)) for i in range(int(count))]
        layout = lay_out(demand_of(resources), nodes)
        assert layout is not None
        assert sorted(layout.nodes) == sorted(node.id for node in nodes for _ in range(node.gpus))
        engines, ranks = sum(map(len, layout.engines)), len(layout.learners)
        assert said == (f"{gpus} shared" if resources.placement == "colocated" else f"{engines} + {ranks}")


def test_the_refusal_is_the_one_that_is_printed():
    demand = Demand(engines=3, learners=4, tensor_parallel=4, side=(("reward.models.judge", 1.0),))
    printed = infeasible(demand, [Node("a", "10.0.0.1", 8), Node("b", "10.0.0.2", 4)])
    assert f"RecipeError: {printed}" in " ".join(PAGE.split())
