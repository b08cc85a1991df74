"""How faults that the user can act on leave the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from rlvr.errors import Interrupted, RlvrError


@contextmanager
def user_errors() -> Iterator[None]:
    """Faults that the user can act on end as a message and an exit code, the last thing on stderr."""
    try:
        yield
    except RlvrError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]{type(error).__name__}[/bold red]", end=": ")
        typer.echo("\n".join([str(error), *getattr(error, "__notes__", [])]), err=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        typer.echo(str(error) or "interrupted", err=True)
        raise typer.Exit(error.exit_code if isinstance(error, Interrupted) else 130) from error
