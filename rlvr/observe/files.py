"""Whole-file writes that are either there or not, never half there; strict JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# A lone surrogate (possible in a user's own info) cannot be encoded; its backslash form happens to be its JSON escape.
ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}


def write_atomically(path: Path, lines: Iterable[str]) -> None:
    """Writes lines to a temporary file beside `path`, forces them to disk, renames. A kill leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", **ENCODING) as file:
            for line in lines:
                file.write(line)
                file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON on one line: "nan", "inf", "-inf" for floats that are not finite (`float` reads them back).

    numpy scalars become numbers, objects that JSON does not know their str.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain)
    except (ValueError, TypeError):  # a non-finite float or an odd key somewhere: rare, so only then walk it all
        return json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    """What JSON does not know. numpy is recognised by its attributes, not imported."""
    if hasattr(value, "dtype") and getattr(value, "size", 0) == 1:
        return value.item()
    return str(value)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return _strict(_plain(value))
