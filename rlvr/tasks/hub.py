"""Whether the Hugging Face hub can be reached from here."""

from __future__ import annotations

import functools
import socket
import urllib.parse
import urllib.request


@functools.cache
def hub_reachable() -> bool:
    """Whether the hub's name resolves. Asked first, because the hub's clients retry for 25 s before they give up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True  # then the proxy resolves names, not this machine
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
