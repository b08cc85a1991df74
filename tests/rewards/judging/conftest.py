"""Scripted judges for the tests of this folder."""

import pytest

from tests.rewards.judging.scripted import serving


@pytest.fixture
def serve():
    with serving() as start:
        yield start
