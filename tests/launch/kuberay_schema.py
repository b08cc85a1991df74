"""The fields of ray.io/v1 that our manifests use, as KubeRay 1.6's API reference and Kubernetes 1.32's give them.

Closed where the API server would prune or refuse: a misspelt key fails. Types are those of the resource definitions.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
NAME: Schema = {"type": "string", "pattern": r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
QUANTITY: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE])?$"}]
}
STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}
REFERENCE = closed({"name": STRING}, ("name",))
SECRET_KEY = closed({"name": STRING, "key": STRING, "optional": {"type": "boolean"}}, ("key",))
VARIABLE = closed({"name": STRING, "value": {"type": "string"}, "valueFrom": closed({"secretKeyRef": SECRET_KEY})})
CONTAINER = closed(
    {
        "name": STRING,
        "image": STRING,
        "workingDir": STRING,
        "command": listed(STRING),
        "env": listed(VARIABLE),
        "lifecycle": closed({"preStop": closed({"exec": closed({"command": listed(STRING)}, ("command",))})}),
        "resources": closed({"requests": QUANTITIES, "limits": QUANTITIES}),
        "volumeMounts": listed(closed({"name": STRING, "mountPath": STRING}, ("name", "mountPath"))),
    },
    ("name", "image"),
)
VOLUME = closed(
    {
        "name": STRING,
        "emptyDir": closed({"medium": {"enum": ["", "Memory"]}, "sizeLimit": QUANTITY}),
        "persistentVolumeClaim": closed({"claimName": STRING, "readOnly": {"type": "boolean"}}, ("claimName",)),
        "configMap": REFERENCE,
    },
    ("name",),
)
POD = closed(
    {
        "serviceAccountName": STRING,
        "imagePullSecrets": listed(REFERENCE),
        "nodeSelector": STRINGS,
        "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
        "tolerations": listed(
            closed(
                {
                    "key": STRING,
                    "operator": {"enum": ["Exists", "Equal"]},
                    "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                }
            )
        ),
        "securityContext": closed(
            {"runAsNonRoot": {"type": "boolean"}, "runAsUser": COUNT, "runAsGroup": COUNT, "fsGroup": COUNT}
        ),
        "terminationGracePeriodSeconds": COUNT,
        "containers": listed(CONTAINER),
        "volumes": listed(VOLUME),
    },
    ("containers",),
)
TEMPLATE = closed({"metadata": {"type": "object"}, "spec": POD})
CLUSTER_SPEC = closed(
    {
        "rayVersion": STRING,
        "suspend": {"type": "boolean"},
        "authOptions": closed({"mode": {"enum": ["disabled", "token"]}, "secretName": STRING}),
        "headGroupSpec": closed({"rayStartParams": STRINGS, "template": TEMPLATE}, ("template",)),
        "workerGroupSpecs": listed(
            closed(
                {
                    "groupName": STRING,
                    "replicas": COUNT,
                    "minReplicas": COUNT,
                    "maxReplicas": COUNT,
                    "numOfHosts": COUNT,
                    "rayStartParams": STRINGS,
                    "template": TEMPLATE,
                },
                ("groupName", "maxReplicas", "minReplicas", "template"),
            )
        ),
    },
    ("headGroupSpec",),
)
JOB_SPEC = closed(
    {
        "entrypoint": STRING,
        "runtimeEnvYAML": STRING,
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "backoffLimit": COUNT,
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": COUNT,
        "suspend": {"type": "boolean"},
        "submitterPodTemplate": TEMPLATE,
        "rayClusterSpec": CLUSTER_SPEC,
    }
)


def _resource(version: str, kind: str, **rest: Schema) -> Schema:
    metadata = closed({"name": NAME, "namespace": NAME, "labels": STRINGS}, ("name",))
    fields = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": metadata, **rest}
    return closed(fields, tuple(fields))


RESOURCES: dict[str, Schema] = {
    "ConfigMap": _resource("v1", "ConfigMap", data=STRINGS),
    "RayJob": _resource("ray.io/v1", "RayJob", spec=JOB_SPEC),
    "RayCluster": _resource("ray.io/v1", "RayCluster", spec=CLUSTER_SPEC),
}
