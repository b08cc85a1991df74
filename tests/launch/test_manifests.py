"""Manifests and tasks against the schemas of those who read them."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.launch.jobs import EVERYTHING, LEAST, ROOT, rendered
from tests.launch.kuberay_schema import RESOURCES

CLUSTER = "launch.kubernetes.kind=cluster"


@pytest.mark.parametrize("overrides", [LEAST["k8s"], EVERYTHING], ids=["least", "everything"])
@pytest.mark.parametrize(
    ("kind", "documents"), [("job", ["ConfigMap", "RayJob"]), ("cluster", ["RayCluster"])], ids=["job", "cluster"]
)
def test_manifests_are_kuberays(kind: str, documents: list[str], overrides: list[str]) -> None:
    found = list(yaml.safe_load_all(rendered("k8s", *overrides, f"launch.kubernetes.kind={kind}")))
    assert [document["kind"] for document in found] == documents
    for document in found:
        jsonschema.validate(document, RESOURCES[document["kind"]])


def test_a_misspelt_key_is_found() -> None:
    """The schema can fail."""
    *_, job = yaml.safe_load_all(rendered("k8s", *EVERYTHING))
    job["spec"]["rayClusterSpec"]["workerGroupSpec"] = job["spec"]["rayClusterSpec"].pop("workerGroupSpecs")
    with pytest.raises(jsonschema.ValidationError, match="workerGroupSpec"):
        jsonschema.validate(job, RESOURCES["RayJob"])


def test_head_and_workers_are_the_nodes_of_the_recipe() -> None:
    """16 GPUs are two pods of 8: the head and one worker; the shared memory counts as memory of the pod."""
    *_, job = yaml.safe_load_all(rendered("k8s", *EVERYTHING))
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (1, 1, 1)
    for group in (cluster["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        limits = {"cpu": 96, "memory": "976Gi", "nvidia.com/gpu": 8}
        assert container["resources"] == {"requests": limits, "limits": limits}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/dev/shm", "/storage"}
    assert job["spec"]["activeDeadlineSeconds"] == 109800
    *_, single = yaml.safe_load_all(rendered("k8s", *LEAST["k8s"]))
    assert "workerGroupSpecs" not in single["spec"]["rayClusterSpec"]
    assert "activeDeadlineSeconds" not in single["spec"]


def test_the_pods_outlive_the_save() -> None:
    """What waits for the run ends before what kills it."""
    *_, job = yaml.safe_load_all(rendered("k8s", *LEAST["k8s"], "launch.grace_s=77"))
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 77
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1] == "72"
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "77"}}


@pytest.mark.parametrize("overrides", [LEAST["sky"], EVERYTHING], ids=["least", "everything"])
def test_tasks_are_skypilots(overrides: list[str]) -> None:
    """Against SkyPilot's own schema where it is installed, else against the keys of its 0.14 that we use."""
    task = yaml.safe_load(rendered("sky", *overrides))
    schema = json.loads((Path(__file__).parent / "skypilot.schema.json").read_text())
    jsonschema.validate(task, schema)
    try:
        from sky.utils import schemas
    except ImportError:
        return
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())


def test_a_task_brings_itself_back() -> None:
    task = yaml.safe_load(rendered("sky", *EVERYTHING))
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:8")
    assert 75 in task["resources"]["job_recovery"]["recover_on_exit_codes"]
    assert task["secrets"] == {"HF_TOKEN": None, "WANDB_API_KEY": None}
    assert "--time-limit-s 109800 train recipes/quickstart/addition.yaml --resume" in task["run"]


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])
def test_images_install_from_the_lock_files_as_another_user_than_root(name: str) -> None:
    lines = (ROOT / "launch" / "docker" / name).read_text().splitlines()
    install = next(i for i, line in enumerate(lines) if line.startswith("RUN launch/setup.sh"))
    assert lines[install] == f"RUN launch/setup.sh {name.partition('.')[2]} cluster"
    users = [(i, line.split()[1]) for i, line in enumerate(lines) if line.startswith("USER")]
    assert users
    assert all(user not in ("root", "0") for _, user in users)
    assert users[0][0] < install
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[2:-1]}
    # What setup.sh reads is there before it runs, and exists in the tree.
    assert copied >= {"launch/setup.sh", "requirements", "setup.cfg", "pyproject.toml"}
    assert all((ROOT / path).exists() for path in copied)
