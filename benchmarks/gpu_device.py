"""What a device can do at best: its copy bandwidth, its matrix products, the peak that its maker states."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Dense bfloat16 TFLOP/s with float32 accumulation, from the makers' data sheets; the first name found in the device's
# counts, so longer names stand before those that they contain.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "GH200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A40": 150.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: a number with its unit, and what it was measured on."""

    what: str
    value: float | None
    unit: str
    note: str = ""


@dataclass(slots=True)
class Bench:
    """What the parts share: the device, its size, where files go, and figures that later parts compare with."""

    device: str
    size: str
    scratch: Path
    peak_tflops: float | None
    found: dict[str, float]

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], Any], repeats: int = 5, warmup: int = 2) -> list[float]:
        """Wall-clock seconds of each repeat, the device idle at both ends."""
        taken = []
        for number in range(warmup + repeats):
            self.synchronize()
            start = time.perf_counter()
            action()
            self.synchronize()
            if number >= warmup:
                taken.append(time.perf_counter() - start)
        return taken

    @contextmanager
    def peak_memory(self, into: dict[str, float], name: str) -> Any:
        """Highest memory that torch holds on the device meanwhile, bytes, all that stood before included."""
        if not self.cuda:
            yield
            return
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        yield
        torch.cuda.synchronize()
        into[name] = max(into.get(name, 0.0), float(torch.cuda.max_memory_allocated()))


def spread(values: list[float], scale: float = 1.0) -> str:
    """'min to max' of the values times the scale, for a row's note."""
    return f"{min(values) * scale:.3g} to {max(values) * scale:.3g}, {len(values)} repeats"


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"


def stated_peak(name: str) -> float | None:
    """TFLOP/s from the table, by the device's name; None for a device that is not in it."""
    found = [peak for key, peak in PEAK_TFLOPS.items() if key.lower() in name.lower()]
    return found[0] if found else None


def measure(bench: Bench) -> list[Row]:
    """Copy bandwidth, host to device and back, and a large bfloat16 product."""
    rows = _copies(bench)
    bench.found["copy_gb_s"] = rows[0].value or 0.0
    side = 8192 if bench.cuda else 256
    # Random data: the clock of a chip that multiplies zeros does not fall.
    left, right = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(left)
    taken = bench.seconds(lambda: torch.mm(left, right, out=product), repeats=10)
    flops = 2.0 * side**3
    reached = flops / statistics.median(taken) / 1e12
    bench.found["matmul_tflops"] = reached
    shape = f"{side} x {side} x {side}; {spread([flops / t / 1e12 for t in taken])}"
    rows.append(Row("bfloat16 matrix product", reached, "TFLOP/s", shape))
    peak = bench.peak_tflops or stated_peak(device_name(bench.device))
    if peak is not None:
        bench.found["peak_tflops"] = peak
        where = "--peak-tflops" if bench.peak_tflops else "data sheet, dense bfloat16"
        rows.append(Row("stated peak", peak, "TFLOP/s", where))
    return rows


def _copies(bench: Bench) -> list[Row]:
    copied = (1 << 30) if bench.cuda else (1 << 24)
    source = torch.empty(copied, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    rows = [_bandwidth(bench, "copy on the device", lambda: target.copy_(source), copied)]
    if bench.cuda:
        pinned = torch.empty(copied, dtype=torch.uint8, pin_memory=True)
        rows.append(_bandwidth(bench, "pinned host to device", lambda: target.copy_(pinned), copied))
        rows.append(_bandwidth(bench, "device to pinned host", lambda: pinned.copy_(source), copied))
    return rows


def _bandwidth(bench: Bench, what: str, action: Callable[[], Any], num_bytes: int) -> Row:
    taken = bench.seconds(action)
    rates = [num_bytes / t / 1e9 for t in taken]
    return Row(
        what, statistics.median(rates), "GB/s", f"{num_bytes >> 20} MiB, each byte counted once; {spread(rates)}"
    )
