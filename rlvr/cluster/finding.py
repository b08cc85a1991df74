"""What the doctor says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: well, may cost speed or come to harm later, or stands in the way of a run. `remedy` is what to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""
    node: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """A run can go on."""
    return Finding(check, "warning", found, remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    """A run would fail."""
    return Finding(check, "fault", found, remedy)


def at_least(check: str, value: float, needed: float, wanted: float, unit: str, remedy: str) -> Finding:
    """A fault below `needed`, a warning below `wanted`."""
    found = f"{value:.1f} {unit}" if unit == "GiB" else f"{value:.0f} {unit}".strip()
    if value < needed:
        return fault(check, f"{found}, at least {needed:g} are needed", remedy)
    return ok(check, found) if value >= wanted else warning(check, f"{found}, {wanted:g} are safe", remedy)
