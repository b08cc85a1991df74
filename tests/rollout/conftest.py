"""One small model and one running engine of each kind, shared by the tests of this folder."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvr.models.build import materialize
from rlvr.recipe.schema import InitConfig, ModelConfig
from rlvr.rollout.engine import EngineSpec
from rlvr.rollout.pool import RolloutPool

CHARACTERS = "0123456789+-*/=()., \\boxed{}abcdefghijklmnopqrstuvwxyz"
START_TIMEOUT_S = 240
EOS = 1


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The quickstart's architecture; it ships sampling defaults that must not matter (R5)."""
    directory = tmp_path_factory.mktemp("model")
    materialize(ModelConfig(init=InitConfig()), directory, seed=0, characters=CHARACTERS)
    path = Path(directory) / "generation_config.json"
    shipped = json.loads(path.read_text()) if path.exists() else {}
    shipped |= {"repetition_penalty": 1.1, "temperature": 0.3, "top_k": 5, "do_sample": True}
    path.write_text(json.dumps(shipped))
    return str(directory)


def engine_spec(kind: str, model_dir: str) -> EngineSpec:
    return EngineSpec(
        kind=kind,
        model_dir=model_dir,
        dtype="float32",
        device="cpu",
        context_length=256,
        max_concurrent=64,
        kv_cache_bytes=128 << 20,
    )


@pytest.fixture(scope="session")
def vllm_pool(ray_cluster: None, small_model: str) -> Iterator[RolloutPool]:
    pool = RolloutPool(engine_spec("vllm", small_model), 2, timeout_s=120)
    pool.start(START_TIMEOUT_S)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def transformers_pool(ray_cluster: None, small_model: str) -> Iterator[RolloutPool]:
    pool = RolloutPool(engine_spec("transformers", small_model), 1, timeout_s=120)
    pool.start(START_TIMEOUT_S)
    yield pool
    pool.close()


@pytest.fixture(params=["vllm", "transformers"])
def pool(request: pytest.FixtureRequest) -> RolloutPool:
    return request.getfixturevalue(f"{request.param}_pool")
