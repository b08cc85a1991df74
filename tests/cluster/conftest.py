"""Fixtures of clusters."""

from collections.abc import Iterator

import pytest

from tests.cluster.two_nodes import TwoNodes, two_node_cluster


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[TwoNodes]:
    """One cluster of two nodes for all tests that only join it; a test that kills a node starts its own."""
    with two_node_cluster() as cluster:
        yield cluster
