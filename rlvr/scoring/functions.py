"""Names of reward functions, with a check of a term against its function's signature that runs none of its code."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rlvr import slots
from rlvr.recipe.schema import RewardTerm

FUNCTIONS: dict[str, str] = {
    "countdown": "rewards.countdown:countdown",
    "exact_match": "rewards.exact_match:exact_match",
    "format": "rewards.format:format",
    "math": "rewards.math:math",
    "multiple_choice": "rewards.multiple_choice:multiple_choice",
    "numeric": "rewards.numeric:numeric",
    "overlong": "rewards.overlong:overlong",
}
"""Name in a recipe -> module:function."""

FACTS = (
    "completion",
    "answer",
    "prompt",
    "num_tokens",
    "max_completion_tokens",
    "truncated",
    "finish_reason",
)
"""What a reward function can ask for by name beside the columns of its row (`rlvr.scoring.inputs`)."""

OF_COMPLETION = {"completion", "completions", "num_tokens", "truncated", "finish_reason"}
ROOT = Path(__file__).resolve().parents[2]  # holds the packages `rlvr` and `rewards`


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function definition accepts by name."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    takes_any: bool
    positional_only: tuple[str, ...]


def target_of(fn: str) -> str:
    """The module:function of a built-in name, or path/to/file.py:function as it stands. RecipeError if unknown."""
    return slots.resolve(fn, FUNCTIONS, "fn") if not slots.is_path(fn) else fn


def signature_problems(term: RewardTerm, columns: Collection[str] | None = None) -> list[str]:
    """What is wrong with a term, one sentence each; [] if nothing is.

    The function's file is parsed, never imported: it may need packages or hardware that only reward processes have.
    A name that is assigned or imported instead of defined by `def` is taken as it is; the reward process checks it
    when it starts. `columns`, if known, are the other columns of the task's rows.
    """
    if not slots.is_path(term.fn) and term.fn not in FUNCTIONS:
        close = difflib.get_close_matches(term.fn, FUNCTIONS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(sorted(FUNCTIONS))
        return [f"fn={term.fn!r}: unknown; {hint}choose one of {known}, or path/to/file.py:function"]
    file, name = _location(term.fn)
    if not file.is_file():
        return [f"fn={term.fn!r}: no file {file}; give path/to/file.py:function"]
    try:
        module = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, ValueError) as error:
        return [f"fn={term.fn!r}: {file} is not valid Python: {error}"]
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if name not in functions:
        return [] if name in _other_names(module) else [_no_such_function(term.fn, file, name, functions)]
    return _mismatches(term, _signature(functions[name]), columns)


def _location(fn: str) -> tuple[Path, str]:
    if slots.is_path(fn):
        return slots.split_path(fn)
    module, _, name = FUNCTIONS[fn].partition(":")
    return ROOT.joinpath(*module.split(".")).with_suffix(".py"), name


def _other_names(module: ast.Module) -> set[str]:
    """Names that the module binds other than by a top-level def; '*' imports may bind any, so they are not followed."""
    bound = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            bound.add(node.name)
    return bound


def _no_such_function(fn: str, file: Path, name: str, functions: Collection[str]) -> str:
    close = difflib.get_close_matches(name, functions, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"fn={fn!r}: {file.name} defines no function {name!r}; {hint}it defines {sorted(functions)}"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    arguments = node.args
    positional = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    keyword_only = [argument.arg for argument in arguments.kwonlyargs]
    required += [name for name, default in zip(keyword_only, arguments.kw_defaults, strict=True) if default is None]
    return Signature(
        names=tuple(positional + keyword_only),
        required=tuple(required),
        takes_any=arguments.kwarg is not None,
        positional_only=tuple(argument.arg for argument in arguments.posonlyargs),
    )


def _mismatches(term: RewardTerm, signature: Signature, columns: Collection[str] | None) -> list[str]:
    problems = []
    listed = f"{term.fn.rpartition(':')[2]}({', '.join(signature.names)}{', **' if signature.takes_any else ''})"
    if signature.positional_only:
        problems.append(f"fn={term.fn!r}: {listed} takes arguments by position only; remove the '/'")
    if not signature.takes_any:
        for parameter, value in term.params.items():
            if parameter not in signature.names:
                close = difflib.get_close_matches(parameter, signature.names, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                problems.append(f"{parameter}={value!r}: unknown parameter; {hint}the function is {listed}")
        if not OF_COMPLETION & set(signature.names):
            problems.append(
                f"fn={term.fn!r}: {listed} asks for nothing about the completion; name a parameter `completion` "
                "(or `completions` for the batched form): arguments are passed by name"
            )
    if columns is not None:
        available = {*FACTS, "completions", "answers", *columns, *term.params}
        missing = [name for name in signature.required if name not in available]
        problems += [
            f"fn={term.fn!r}: {listed} needs {name!r}, which is neither a column of the rows ({sorted(columns)}), "
            f"a parameter of the term, nor one of {', '.join(FACTS)}"
            for name in missing
        ]
    return problems
