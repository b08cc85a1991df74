"""The resources section of a recipe: what runs where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlvr.recipe.section import Section

NODE_LABELS = (
    "Only nodes with these Ray labels, e.g. {pool: a} for nodes started with `ray start --labels pool=a`; Ray's own, "
    "such as ray.io/accelerator-type, count too."
)
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1024, le=65535)]


class EngineResources(Section):
    """Rollout workers."""

    count: int = Field(1, ge=1, description="Independent engines: data parallelism.")
    tensor_parallel: int = Field(
        1, ge=1, description="GPUs per engine; of one node, unless no node has as many. Ray places vLLM's workers."
    )
    threads: int = Field(1, ge=1, description="OpenMP threads of a CPU engine.")
    restarts: int = Field(
        1,
        ge=0,
        description="How many engines that die or freeze are replaced in a run; the new one gets the current weights, "
        "and what was lost is generated again with the same seeds. Only where weights travel through host memory "
        "(`resources.transfer`): else the run ends and is resumed.",
    )
    node_labels: dict[str, str] = Field(default_factory=dict, description=NODE_LABELS)


class LearnerResources(Section):
    """Learner ranks."""

    count: int = Field(1, ge=1, description="Data-parallel ranks, one GPU each where there are GPUs.")
    threads: int = Field(1, ge=1, description="OpenMP threads of a rank.")
    node_labels: dict[str, str] = Field(default_factory=dict, description=NODE_LABELS)


class RewardResources(Section):
    """Reward workers."""

    count: int = Field(1, ge=1, description="Ray actors.")
    processes: int = Field(2, ge=1, description="Killable processes of each.")


class ResourcesConfig(Section):
    """What runs where."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes GPUs where Ray sees any.")
    placement: Literal["separate", "colocated"] = Field(
        "separate", description="Engines and learners on disjoint GPUs, or on the same (engines sleep while learning)."
    )
    engines: EngineResources = EngineResources()
    learners: LearnerResources = LearnerResources()
    rewards: RewardResources = RewardResources()
    ray_address: str | None = Field(
        None, description="Join this Ray cluster (host:port; `auto` finds the one of this machine); null starts one."
    )
    transfer: Literal["auto", "host", "nccl", "ipc"] = Field(
        "auto",
        description="How weights reach the engines: through host memory, NCCL between disjoint GPUs, or CUDA IPC on "
        "shared ones; auto chooses by placement.",
    )
    transfer_bucket_mb: int = Field(256, ge=1, description="Size cap of a weight-transfer bucket, MiB.")
    network_interface: str | None = Field(
        None,
        description="Interface (e.g. ib0) of the ranks' collectives and of the weight transfer, the same on all nodes; "
        "null lets NCCL and gloo choose.",
    )
    ports: tuple[Port, Port] | None = Field(
        None,
        description="First and last port that ranks, weight transfer and served models may listen on; null: any that "
        "is free. Ray's own ports are set where Ray is started.",
    )
    environment: dict[VariableName, str] = Field(
        default_factory=dict,
        description="Environment variables of every process of the run, on all nodes. Saved with the recipe: no "
        "secrets here.",
    )
    pass_environment: tuple[str, ...] = Field(
        ("HF_*", "HUGGING_FACE_*", "WANDB_*", "NCCL_*", "GLOO_*"),
        description="Variables (shell patterns) of the environment that `rlvr` is started in, handed to every process "
        "on all nodes; their values are written nowhere. `environment` comes first.",
    )
    start_timeout_s: float = Field(300.0, gt=0, description="Deadline for actors to be placed and ready.")
    step_timeout_s: float = Field(1800.0, gt=0, description="Deadline of any one wait during training.")
    liveness_timeout_s: float = Field(
        120.0,
        gt=0,
        description="A worker that answers no ping for so long, or an engine that takes so long for one step of "
        "decoding, counts as frozen, whatever the deadline of the wait.",
    )
