"""The port at which ranks meet is theirs from the moment it is chosen (R8)."""

import subprocess
import sys

import pytest

from rlvr.cluster.environment import held_port
from rlvr.errors import RlvrError
from rlvr.learner.rendezvous import open_store


def test_a_taken_port_is_passed_over_and_a_full_range_is_an_error():
    with held_port() as taken:
        with pytest.raises(RlvrError, match=rf"resources.ports=\[{taken}, {taken}\].*taken"):
            open_store("127.0.0.1", 1, 5, (taken, taken))
        assert taken < open_store("127.0.0.1", 1, 5, (taken, min(taken + 50, 65535))).port


def test_ranks_meet_at_the_store_that_is_open_already():
    """Were the port closed in between, this process could not be the master at it a second time."""
    code = (
        "from datetime import timedelta\nimport torch, torch.distributed as dist\n"
        "from rlvr.learner.rendezvous import open_store\n"
        "store = open_store('127.0.0.1', 1, 20)\n"
        "url = f'tcp://127.0.0.1:{store.port}'\n"
        "dist.init_process_group('gloo', init_method=url, rank=0, world_size=1, timeout=timedelta(seconds=20))\n"
        "ones = torch.ones(2)\ndist.all_reduce(ones)\nprint(ones.tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[1.0, 1.0]", done.stderr
