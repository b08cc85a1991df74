"""Renders the templates under launch/, which are valid shell and YAML before and after.

Jinja2 with other marks: a line that begins with `#%` is a statement, `<<name>>` is a value. To YAML and to a shell the
statements are comments and the values are words (a shell template has them between double quotes).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from rlvr.errors import RlvrError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "launch"


def render(template: str, values: dict[str, Any]) -> str:
    """The file under launch/ with its values filled in; RlvrError if it is missing, or asks for what there is not."""
    path = TEMPLATES / template
    if not path.is_file():
        raise RlvrError(
            f"{path} is missing: `rlvr launch` renders the templates of a clone of the repository; install rlvr from a "
            "clone (launch/setup.sh) and run it there"
        )
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        line_statement_prefix="#%",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=jinja2.StrictUndefined,
        finalize=_for_shell if path.suffix in (".sbatch", ".sh") else _for_yaml,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["block"] = lambda text, indent: _Raw(_block(text, indent))
    environment.filters["text"] = str
    try:
        return environment.from_string(path.read_text(encoding="utf-8")).render(values)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise RlvrError(f"{path}{f':{line}' if line else ''}: cannot be rendered: {error}") from error


class _Raw(str):
    """Text that goes in as it is."""


def _for_shell(value: object) -> str:
    """As a word stands between double quotes of a shell."""
    text = str(value)
    for character in '\\"$`':
        text = text.replace(character, "\\" + character)
    return text


def _for_yaml(value: object) -> str:
    if isinstance(value, _Raw | jinja2.Undefined):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _block(text: str, indent: int) -> str:
    """A literal block scalar whose lines stand `indent` spaces in."""
    return "|\n" + "\n".join(" " * indent + line if line else "" for line in text.rstrip("\n").split("\n"))
