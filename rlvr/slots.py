"""Slot lookup: a name in a slot's dict, or a user's own function by path/to/file.py:name."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rlvr.errors import RecipeError

T = TypeVar("T")


def is_path(name: str) -> bool:
    """True for path/to/file.py:function, False for the name of a built-in."""
    return ".py:" in name


def split_path(name: str) -> tuple[Path, str]:
    """('path/to/file.py:function') -> (Path, 'function')."""
    file, _, attribute = name.rpartition(":")
    return Path(file), attribute


def table_names(module: str, table: str) -> list[str]:
    """The names in a slot's dict, read from its source: a recipe is checked without importing torch."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == table:
            assert isinstance(node.value, ast.Dict), f"{module}.{table} is no literal dict"
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError(f"{module} has no {table}")


def near_miss(word: str, names: Iterable[str]) -> str:
    """ "did you mean 'format'? " where a name is close, else empty."""
    close = difflib.get_close_matches(word, list(names), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def check_name(name: str, names: Iterable[str]) -> str:
    """Why `name` is no choice of a slot whose dict holds `names`; empty where it is, or is a path."""
    names = sorted(names)
    if is_path(name) or name in names:
        return ""
    return f"unknown; {near_miss(name, names)}choose one of {', '.join(names)}, or path/to/file.py:function"


def resolve(name: str, table: Mapping[str, T], key: str) -> T | Any:
    """The function behind a slot's choice. `key` is the dotted recipe key that the error names."""
    if is_path(name):
        return load_function(name, key)
    fault = check_name(name, table)
    if fault:
        raise RecipeError(f"{key}={name!r}: {fault}")
    return table[name]


def load_function(name: str, key: str) -> Any:
    """Imports path/to/file.py and returns the attribute; the module is cached by its absolute path."""
    file, attribute = split_path(name)
    file = file.resolve()
    if not file.is_file():
        raise RecipeError(f"{key}={name!r}: no file {file}; give path/to/file.py:function")
    module_name = f"rlvr_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None, file
        assert spec.loader is not None, file
        module = importlib.util.module_from_spec(spec)
        # Registered before execution: dataclasses and pickling look their module up by name.
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    if not callable(getattr(module, attribute, None)):
        names = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise RecipeError(f"{key}={name!r}: {file.name} defines no function {attribute!r}; it defines {names}")
    return getattr(module, attribute)
