"""Programs of a cluster that `rlvr launch` calls."""

from __future__ import annotations

import shutil

from rlvr.errors import RlvrError


def require(program: str, target: str, remedy: str) -> None:
    """RlvrError where the program is not on PATH."""
    if shutil.which(program) is None:
        raise RlvrError(
            f"--to {target}: `{program}` is not on PATH; {remedy}. `--dry-run` prints the rendered file without it"
        )
