"""The doctor's look at the stack: versions, imports, and whether torch, its extensions and the GPU driver fit."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rlvr.cluster.finding import Finding, fault, ok, warning
from rlvr.cluster.versions import ALTERNATIVES, TESTED, installed

PACKAGES = ("torch", "transformers", "deepspeed", "vllm", "math_verify")
REINSTALL = "`make clean setup` (or `make clean setup-cuda`)"


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the driver says, and what torch sees. `smi`: how nvidia-smi fared: ok, absent, or its error.

    `driver_cuda` is the newest CUDA that the driver serves, `torch_cuda` the one torch was built for (None: CPU build).
    """

    smi: str
    driver_cuda: tuple[int, int] | None
    devices: int
    torch_cuda: tuple[int, int] | None
    torch_devices: int
    torch_error: str = ""
    nodes: int = 0  # device files of GPUs


def version_findings() -> Iterator[Finding]:
    """Each package against the range that this version was tested with."""
    from packaging.specifiers import SpecifierSet

    for package, tested in TESTED.items():
        found = installed(package)
        remedy = f"install {package}{tested}: {REINSTALL}"
        if found is None:
            yield fault(package, "not installed", remedy)
        elif not SpecifierSet(tested).contains(found, prereleases=True):
            yield fault(package, f"{found}, tested with {tested}", remedy)
        else:
            yield ok(package, found)
    yield from torch_pin_findings()


def torch_pin_findings() -> Iterator[Finding]:
    """Whether vLLM's compiled part was built for the torch that is installed: it links against it."""
    from packaging.requirements import Requirement

    torch = installed("torch")
    for distribution in ALTERNATIVES["vllm"]:
        try:
            required = [Requirement(line) for line in metadata.requires(distribution) or []]
        except metadata.PackageNotFoundError:
            continue
        for pin in required:
            applies = pin.name == "torch" and (pin.marker is None or pin.marker.evaluate())
            if applies and torch and not pin.specifier.contains(torch, prereleases=True):
                text = f"{distribution} was built for torch{pin.specifier}, installed is {torch}"
                yield fault("vLLM and torch", text, REINSTALL)


def import_findings() -> Iterator[Finding]:
    """Imports the whole stack into this process, compiled parts included."""
    failed = False
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            failed = True
            what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            built = "undefined symbol" in what or "cannot open shared object" in what
            why = "; a compiled part was built for another torch or CUDA" if built else ""
            yield fault(f"import {package}", what + why, REINSTALL)
    if not failed:
        yield ok("stack in a Ray worker", f"imports: {', '.join(PACKAGES)}")


def gpu_findings(gpus: Gpus | None = None) -> Iterator[Finding]:
    """Driver, torch's build and what torch sees, against each other."""
    seen = probe_gpus() if gpus is None else gpus
    present = max(seen.devices, seen.nodes)
    if not present:
        if seen.torch_cuda is not None:
            yield warning("GPU", "none, and torch is a CUDA build", "`make setup` installs the smaller CPU stack")
        else:
            yield ok("GPU", "none: runs on CPU")
        return
    if seen.smi == "absent":
        yield warning(
            "GPU driver",
            f"{present} GPUs, but no nvidia-smi",
            "install the driver's tools, or give the container the `utility` capability (NVIDIA_DRIVER_CAPABILITIES)",
        )
    elif seen.smi != "ok":
        yield fault(
            "GPU driver", f"nvidia-smi fails: {seen.smi}", "reboot, or reinstall driver and kernel module alike"
        )
        return
    if seen.torch_cuda is None:
        yield fault("torch and GPU", f"{present} GPUs, and torch is a CPU build", "`make clean setup-cuda`")
    elif seen.driver_cuda is not None and seen.driver_cuda[0] < seen.torch_cuda[0]:
        yield fault(
            "torch and GPU",
            f"the driver serves CUDA {_dotted(seen.driver_cuda)}, torch was built for {_dotted(seen.torch_cuda)}",
            "install a newer driver, or a torch and a vllm that were built for the driver's CUDA",
        )
    elif seen.torch_devices < present:
        yield fault(
            "torch and GPU",
            f"torch sees {seen.torch_devices} of {present} GPUs{': ' if seen.torch_error else ''}{seen.torch_error}",
            "look at CUDA_VISIBLE_DEVICES, and at the container's --gpus",
        )
    else:
        yield ok("torch and GPU", f"{present} GPUs, CUDA {_dotted(seen.torch_cuda)}")


def probe_gpus() -> Gpus:
    """Asks nvidia-smi, the device files, and torch."""
    smi, driver, devices = nvidia_smi()
    nodes = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])
    try:
        import torch
    except Exception as error:  # noqa: BLE001  # told by `import_findings`
        return Gpus(smi, driver, devices, None, 0, repr(error)[:200], nodes)
    problem, count = "", 0
    if torch.version.cuda is not None:
        try:
            torch.cuda.init()
            count = torch.cuda.device_count()
        except (RuntimeError, AssertionError) as error:
            problem = " ".join(str(error).split())[:300]
    return Gpus(smi, driver, devices, _pair(torch.version.cuda or ""), count, problem, nodes)


def nvidia_smi() -> tuple[str, tuple[int, int] | None, int]:
    """How it fared, the CUDA version that its header names, and how many GPUs it lists."""
    try:
        header = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30)
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return "absent", None, 0
    except subprocess.TimeoutExpired:
        return "no answer in 30 s", None, 0
    if header.returncode or listed.returncode:
        said = (header.stdout + header.stderr + listed.stderr).split()
        return f"exit code {header.returncode or listed.returncode}: {' '.join(said)[:200]}", None, 0
    named = re.search(r"CUDA Version:\s*([\d.]+)", header.stdout)
    return "ok", _pair(named.group(1)) if named else None, len(re.findall(r"^GPU \d+:", listed.stdout, re.MULTILINE))


def _pair(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
