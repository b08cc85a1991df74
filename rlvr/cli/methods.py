"""`rlvr methods`: which published methods there are, and what each fills in."""

from __future__ import annotations

import textwrap

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlvr.cli.errors import user_errors
from rlvr.errors import RecipeError
from rlvr.recipe.methods import FAMILIES, METHODS, Method, choices, recipe_stem
from rlvr.slots import near_miss

app = typer.Typer(help="List published methods, or show one.", invoke_without_command=True)


@app.callback()
def methods(context: typer.Context) -> None:
    """List the published methods: name, paper, slots, and whether each can be run.

    [dim]rlvr methods; rlvr methods show vapo[/dim]
    """
    if context.invoked_subcommand is None:
        console = Console()
        for title, family in FAMILIES.items():
            console.print(_table(title, family))
        console.print("rlvr methods show NAME prints formula, slots, defaults and citation.")


@app.command()
def show(name: str = typer.Argument(help="A name from the list.", show_default=False)) -> None:
    """Print a method's formula, slots, defaults, citation, and what of it is not verified.

    [dim]rlvr methods show dapo[/dim]
    """
    with user_errors():
        if name not in METHODS:
            raise RecipeError(f"method {name!r}: unknown; {near_miss(name, METHODS)}`rlvr methods` lists them")
        typer.echo(description(name, METHODS[name]))


def description(name: str, method: Method) -> str:
    """What `rlvr methods show` prints."""
    parts = [
        f"{name}: {method.title} ({method.status})",
        _wrapped("citation", method.paper + (f", https://arxiv.org/abs/{method.arxiv}" if method.arxiv else "")),
        _wrapped("slots", ", ".join(method.slots)),
        _wrapped("formula", method.formula),
    ]
    if method.planned:
        parts.append(_wrapped("missing", method.planned))
    else:
        parts.append(_wrapped("recipe", f"recipes/methods/{recipe_stem(name)}.yaml"))
    parts += [_wrapped("deviation", text) for text in method.deviations]
    if method.unverified:
        parts.append(_wrapped("unverified", "; ".join(method.unverified)))
    if method.preset is not None:
        parts.append(f"  preset: {name} stands for")
        for key, value in choices(method.preset).items():
            mark = "  # not verified" if key in method.unverified else ""
            parts.append(f"    {key}: {yaml.safe_dump(value).removesuffix(chr(10) + '...' + chr(10)).strip()}{mark}")
    return "\n".join(parts)


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(text, 120, initial_indent=f"  {label:<11}", subsequent_indent=" " * 13)


def _table(title: str, family: dict[str, Method]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("name", "paper", "arXiv", "slots", "status"):
        table.add_column(column)
    for name, method in family.items():
        cells = (name, f"{method.title}. {method.paper}", method.arxiv, ", ".join(method.slots), method.status)
        table.add_row(*map(escape, cells))
    return table
