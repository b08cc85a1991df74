"""(sum, count) metrics: kept apart until they are reduced once, so that no mean of means is ever taken.

Names ending in `_max` hold (maximum, 1) and reduce by maximum; every other name adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Metrics = dict[str, tuple[float, float]]


def merge(parts: Iterable[Mapping[str, tuple[float, float]]]) -> Metrics:
    """Adds sums and counts over ranks, micro-batches or groups."""
    merged: Metrics = {}
    for part in parts:
        for name, (total, count) in part.items():
            if name not in merged:
                merged[name] = (total, count)
            elif name.endswith("_max"):
                merged[name] = (max(merged[name][0], total), 1.0)
            else:
                merged[name] = (merged[name][0] + total, merged[name][1] + count)
    return merged


def means(metrics: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Reduces to sum / count; names that counted nothing are left out."""
    return {name: total / count for name, (total, count) in metrics.items() if count}


def of_values(values: Iterable[float]) -> tuple[float, float]:
    """The (sum, count) of some values."""
    values = list(values)
    return float(sum(values)), float(len(values))
