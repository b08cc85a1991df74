"""What a dead or failing worker last said."""

from __future__ import annotations

from pathlib import Path

import ray

TAIL_LINES = 15


def log_tail(pid: int | None, lines: int = TAIL_LINES) -> str:
    """The last lines that a worker process of this node wrote to stderr, or '' where they cannot be found."""
    directory = _log_directory()
    if pid is None or directory is None:
        return ""
    for file in directory.glob(f"worker-*-{pid}.err"):
        written = file.read_text(errors="replace").splitlines()
        # Ray's own bookkeeping lines start with a colon.
        said = [line for line in written if line.strip() and not line.startswith(":")]
        if said:
            return f"\nlast lines of {file}:\n" + "\n".join(f"  {line}" for line in said[-lines:])
    return ""


def _log_directory() -> Path | None:
    # TODO(a public way to a worker's log file without Ray's dashboard): use it.
    node = getattr(ray._private.worker, "_global_node", None)
    return Path(node.get_logs_dir_path()) if node is not None else None
