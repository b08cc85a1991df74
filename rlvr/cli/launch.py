"""`rlvr launch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def launch(path: Path, overrides: Sequence[str], target: str, *, dry_run: bool) -> None:
    """Submits a recipe to a cluster, or shows what would be submitted; exits with the run's code where it waits."""
    from rlvr.launch.launch import launch as run

    code = run(path, overrides, target, dry_run=dry_run, say=typer.echo)
    if code:
        raise typer.Exit(code)
