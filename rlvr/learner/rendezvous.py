"""Where learner ranks meet: a store whose port is held from the moment it is chosen."""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import DistNetworkError, TCPStore

from rlvr.cluster.environment import Ports, candidates, ports_taken


def open_store(host: str, world_size: int, timeout_s: float, ports: Ports | None = None) -> TCPStore:
    """A store on a free port; `init_process_group` with tcp://host:port in this process takes it up as it is.

    Between choosing a port and listening at it nobody else can take it. RlvrError where the range has none that is
    free.
    """
    for port in candidates(ports):
        try:
            return TCPStore(
                host,
                port,
                world_size,
                is_master=True,
                timeout=timedelta(seconds=timeout_s),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except DistNetworkError as error:
            if "EADDRINUSE" not in str(error):
                raise
    raise ports_taken(ports)
