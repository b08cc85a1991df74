"""`--to k8s`: a RayJob of KubeRay, or a RayCluster that jobs are submitted to."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError, RlvrError
from rlvr.launch.drain import PID_FILE
from rlvr.launch.job import Job
from rlvr.launch.render import ROOT, render
from rlvr.launch.tools import require
from rlvr.recipe.load import dump_recipe

IMAGE_ROOT = "/opt/rlvr"  # where launch/docker puts the repository
RECIPE = "/etc/rlvr/recipe.yaml"  # where the manifest puts the resolved recipe
# KubeRay appends to the name, and Kubernetes ends names at 63.
MAX_NAME = 47


def render_kubernetes(job: Job) -> str:
    """The manifest; RecipeError where the recipe leaves out what a cluster cannot guess."""
    launch = job.recipe.launch
    kubernetes = launch.kubernetes
    for key, value, why in (
        ("launch.kubernetes.image", kubernetes.image, "an image built from launch/docker and pushed to your registry"),
        ("launch.kubernetes.claim", kubernetes.claim, "a PersistentVolumeClaim (ReadWriteMany) for runs and caches"),
        ("launch.storage", launch.storage, "the directory at which the claim is mounted, e.g. /storage"),
        (
            "launch.kubernetes.secret",
            kubernetes.secret if launch.secrets else "none is needed",
            f"the Secret that holds {', '.join(launch.secrets)}",
        ),
    ):
        if value is None:
            raise RecipeError(f"{key}: --to k8s needs {why}; write it in the recipe or as an override")
    name = _name(job)
    values: dict[str, Any] = job.values() | {
        "name": name,
        "ray_version": metadata.version("ray"),
        "workers": job.shape.nodes - 1,
        "memory": f"{job.shape.memory_gb + kubernetes.shared_memory_gb}Gi",
        "shared_memory": f"{kubernetes.shared_memory_gb}Gi",
        "drain_s": job.recipe.launch.grace_s - 5,
    }
    if kubernetes.kind == "cluster":
        return render("kubernetes/raycluster.yaml", values)
    changes = [f"runs_dir={job.runs_dir('k8s', shared=True)}", "resources.ray_address=auto"]
    # KubeRay keeps the time limit.
    train = job.train(RECIPE, *changes, supervisor=["--pid-file", str(PID_FILE)], resolved=True)
    values |= {"recipe": _in_image(job), "entrypoint": shlex.join(["exec", "python", "-m", *train])}
    return render("kubernetes/rayjob.yaml", values)


def command(job: Job, manifest: Path) -> list[str]:
    return ["kubectl", "apply", "-f", str(manifest)]


def submit_kubernetes(job: Job, manifest: Path) -> str:
    """Applies the manifest; what to tell the user. RlvrError with kubectl's own words where it refuses."""
    require("kubectl", "k8s", "install it (https://kubernetes.io/docs/tasks/tools/) and point it at your cluster")
    done = subprocess.run(command(job, manifest), capture_output=True, text=True, check=False)
    if done.returncode:
        hint = ""
        if "no matches for kind" in done.stderr:
            hint = ". The cluster has no KubeRay: helm install kuberay-operator kuberay/kuberay-operator"
        raise RlvrError(f"kubectl refused {manifest} (exit code {done.returncode}): {done.stderr.strip()}{hint}")
    name, namespace = _name(job), job.recipe.launch.kubernetes.namespace
    if job.recipe.launch.kubernetes.kind == "cluster":
        return (
            f"{done.stdout.strip()}\nkubectl -n {namespace} port-forward service/{name}-head-svc 8265:8265\n"
            f"and, beside it: rlvr launch {job.path} --to ray"
        )
    return (
        f"{done.stdout.strip()}\n"
        f"Follow it: kubectl -n {namespace} get rayjob {name} --watch; "
        f"kubectl -n {namespace} logs -f -l job-name={name}\n"
        f"Save and end: kubectl -n {namespace} delete rayjob {name}"
    )


def _name(job: Job) -> str:
    """The run's name as Kubernetes takes names."""
    name = re.sub(r"[^a-z0-9-]+", "-", job.name.lower()).strip("-")
    if len(name) > MAX_NAME or not name[:1].isalpha():
        raise RecipeError(
            f"name={job.name!r}: on Kubernetes it becomes {name!r}, which must begin with a letter and have at most "
            f"{MAX_NAME} characters; choose another with name=..."
        )
    return name


def _in_image(job: Job) -> str:
    """The resolved recipe with the repository's paths as they are in the image."""
    text = dump_recipe(job.recipe)
    outside = [path for path in re.findall(r"(?<![\w.])(/[^\s,\]}'\"]+\.py):", text) if not _inside(path)]
    if outside:
        raise RecipeError(
            f"{outside[0]}: the recipe names code outside of {ROOT}, which the image does not have; move it into the "
            "repository and build the image anew"
        )
    return text.replace(f"{ROOT}/", f"{IMAGE_ROOT}/")


def _inside(path: str) -> bool:
    return Path(path).is_relative_to(ROOT)
