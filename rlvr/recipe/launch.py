"""The launch section of a recipe: what `rlvr launch` asks a cluster for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlvr.recipe.resources import VariableName
from rlvr.recipe.section import Section

# What stands in a rendered file unquoted somewhere; wide enough for names, paths, images and quantities.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./:@=,+%-]+$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./+@%-]*$")]


class SlurmLaunch(Section):
    """`--to slurm`: one batch job that starts Ray over its allocation. null leaves the site's default."""

    partition: Word | None = Field(None, description="sbatch --partition.")
    account: Word | None = Field(None, description="sbatch --account.")
    qos: Word | None = Field(None, description="sbatch --qos.")
    constraint: Word | None = Field(None, description="sbatch --constraint, e.g. a GPU type or a fabric.")
    exclusive: bool = Field(False, description="sbatch --exclusive: whole nodes.")
    setup: str | None = Field(
        None,
        min_length=1,
        description="Shell file, relative to the repository, that every node sources first (module load, NCCL "
        "variables); launch/slurm/site.example.sh is a beginning.",
    )


class RayLaunch(Section):
    """`--to ray`: a job of a running Ray cluster, in a copy of the working directory."""

    address: Word | None = Field(
        None,
        description="HTTP address of the cluster's job server, e.g. http://head:8265; null takes "
        "RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265.",
    )
    exclude: tuple[str, ...] = Field(
        (), description="Patterns (as in .gitignore) of files that are not sent, beside those that git ignores."
    )


class KubernetesLaunch(Section):
    """`--to k8s`: a RayJob of KubeRay, or a RayCluster to submit to."""

    kind: Literal["job", "cluster"] = Field(
        "job", description="job: a RayJob, which ends with the run; cluster: a RayCluster that stays, for `--to ray`."
    )
    namespace: Word = Field("default", description="Namespace of everything.")
    image: Word | None = Field(
        None, description="Image with rlvr and this repository, built from launch/docker; required."
    )
    image_pull_secret: Word | None = Field(None, description="Secret of the image's registry.")
    secret: Word | None = Field(
        None, description="Secret whose keys are the variables of `launch.secrets`; required if there are any."
    )
    claim: Word | None = Field(
        None, description="PersistentVolumeClaim (ReadWriteMany) mounted at `launch.storage`; required."
    )
    queue: Word | None = Field(None, description="Kueue's local queue; null submits without Kueue.")
    service_account: Word | None = Field(None, description="Service account of the pods.")
    gpu_resource: Word = Field("nvidia.com/gpu", description="Name that the device plugin gives to GPUs.")
    node_selector: dict[Word, Word] = Field(default_factory=dict, description="Labels of the nodes to run on.")
    shared_memory_gb: int = Field(16, ge=1, description="Size of /dev/shm, counted as memory of the pod.")
    retries: int = Field(2, ge=0, description="New clusters after a failure; each takes the run up where it was saved.")


class SkyPilotLaunch(Section):
    """`--to sky`: a managed job of SkyPilot."""

    accelerator: Word = Field("H100", description="Name of the GPU, as `sky show-gpus` lists it.")
    infra: Word | None = Field(None, description="Where: aws, gcp/us-central1, kubernetes, ...; null: the cheapest.")
    spot: bool = Field(False, description="Spot instances; the run is taken up on new ones after a preemption.")
    image: Word | None = Field(None, description="docker:<image> or a cloud's image; null: SkyPilot's own.")
    bucket: Word | None = Field(
        None, description="Bucket (s3://..., gs://...) mounted at `launch.storage`, where runs go; required."
    )
    disk_gb: int = Field(512, ge=50, description="Disk of each node.")


class LaunchConfig(Section):
    """What `rlvr launch` asks a cluster for; `rlvr train` reads none of it."""

    gpus_per_node: int = Field(8, ge=1, description="GPUs that a node of the cluster has.")
    nodes: int | None = Field(
        None, ge=1, description="Nodes; null takes as many as the recipe's GPUs fill (1 where device is cpu)."
    )
    cpus_per_node: int | None = Field(
        None, ge=1, description="CPU cores asked of each node; null: 12 for each of its GPUs, 2 without GPUs."
    )
    memory_gb_per_node: int | None = Field(
        None, ge=1, description="Memory asked of each node; null: 120 for each of its GPUs, 8 without GPUs."
    )
    time_limit_h: float | None = Field(
        None, gt=0, description="Wall-clock limit in hours; the run is saved before it. null: the cluster's own."
    )
    grace_s: int = Field(
        300,
        ge=10,
        description="Seconds between the warning of a stop and the stop: the run finishes what it is at and saves.",
    )
    secrets: tuple[VariableName, ...] = Field(
        (),
        description="Names of environment variables (HF_TOKEN, WANDB_API_KEY) that the job needs; their values are "
        "taken from where you launch, or from a secret of the cluster, and stand in no rendered file.",
    )
    storage: AbsolutePath | None = Field(
        None, description="Directory that every node sees; a relative runs_dir is taken to be in it."
    )
    slurm: SlurmLaunch = SlurmLaunch()
    ray: RayLaunch = RayLaunch()
    kubernetes: KubernetesLaunch = KubernetesLaunch()
    skypilot: SkyPilotLaunch = SkyPilotLaunch()
