"""R20: real vLLM engines answer with the adapter that the learner trains, merged into their weights or beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import ray

from rlvr.learner.batch import TrainSequence
from rlvr.learner.group import LearnerGroup
from rlvr.models.build import materialize
from rlvr.recipe.lora import LoraConfig
from rlvr.recipe.schema import InitConfig, LearnerConfig, ModelConfig, OptimizerConfig, ResourcesConfig
from rlvr.records import Group, Prompt, SamplingParams
from rlvr.rollout.engine import EngineSpec
from rlvr.rollout.pool import RolloutPool
from rlvr.transfer.push import HostPusher

WARM = SamplingParams(temperature=1.0, max_completion_tokens=24, stop_token_ids=())
PROMPTS = [Prompt(f"p{i}", tuple(range(5, 12 + i)), "") for i in range(4)]
CAP_BYTES = 200_000  # several buckets of the base, two of the adapter
LORA = LoraConfig(rank=8, alpha=32, transfer="adapter")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model")
    return materialize(ModelConfig(init=InitConfig(num_layers=2)), directory, seed=0, characters="0123456789+-*/=() ")


@pytest.fixture(scope="module")
def learner(ray_cluster: None) -> Iterator[LearnerGroup]:
    group = LearnerGroup(ResourcesConfig(), "cpu")
    group.start()
    yield group
    group.close()


@pytest.fixture(scope="module")
def pool(ray_cluster: None, model_dir: str) -> Iterator[RolloutPool]:
    spec = EngineSpec(
        kind="vllm",
        model_dir=model_dir,
        dtype="float32",
        device="cpu",
        context_length=128,
        max_concurrent=16,
        kv_cache_bytes=128 << 20,
        lora_rank=LORA.rank,
    )
    engines = RolloutPool(spec, 1, timeout_s=120)
    engines.start(240)
    yield engines
    engines.close()


def set_up(learner: LearnerGroup, model_dir: str, lora: LoraConfig | None) -> None:
    """A policy several large steps away from its base."""
    config = LearnerConfig(lora=lora, optimizer=OptimizerConfig(lr=2e-2 if lora else 1e-3))
    learner.setup(model_dir, config, 8, 0, reference=False)
    for seed in range(3):
        ids = np.random.default_rng(seed).integers(3, 20, 30)
        mask = np.arange(30) >= 6
        learner.train_sft([TrainSequence(ids, mask, np.zeros(30), np.ones(30), 0)])


def differences(learner: LearnerGroup, groups: list[Group]) -> np.ndarray:
    """Of the engine's logprobs of what it sampled from the learner's, nats."""
    segments = [rollout.segments[0] for group in groups for rollout in group.rollouts]
    sequences = []
    for index, segment in enumerate(segments):
        ids = np.array([*segment.prompt_ids, *segment.completion_ids])
        mask = np.arange(len(ids)) >= len(segment.prompt_ids)
        sequences.append(TrainSequence(ids, mask, np.zeros(len(ids)), np.zeros(len(ids)), index))
    ours = np.concatenate(learner.token_outputs(sequences))
    return np.abs(ours - np.concatenate([segment.behavior_logprobs for segment in segments]))


def sample(pool: RolloutPool, key: str) -> list[Group]:
    return sorted(pool.generate(PROMPTS, 4, WARM, (key,)), key=lambda group: group.prompt.id)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lora",
    [
        LORA,
        LORA.model_copy(update={"transfer": "merged"}),
        LORA.model_copy(update={"target_modules": ("q_proj", "v_proj", "down_proj"), "rslora": True, "rank": 3}),
        None,
    ],
    ids=["adapter", "merged", "adapter-of-some-layers", "full"],
)
def test_engine_logprobs_are_the_learners(learner, pool, model_dir, lora):  # type: ignore[no-untyped-def]
    """The golden test, whatever the engine held before: an adapter of another shape, or none."""
    pusher = HostPusher(learner, pool, CAP_BYTES)
    set_up(learner, model_dir, lora)
    assert differences(learner, sample(pool, "before")).max() > 0.1, "the policy must have left what the engine holds"
    pusher.push(1)
    assert differences(learner, sample(pool, "after")).max() < 1e-4
    if lora is not None and lora.transfer == "adapter":
        # After the first push only the adapter travels: a sixth of the base here, a thousandth at 7B.
        sizes = {form: sum(bucket.num_bytes for bucket in pusher.buckets[form]) for form in ("base", "adapter")}
        assert 3 * sizes["adapter"] < sizes["base"]
        learner.train_sft([TrainSequence(np.arange(3, 19), np.arange(16) >= 6, np.zeros(16), np.ones(16), 0)])
        # The same prompts again: their cached keys and values belong to the adapter before.
        assert differences(learner, sample(pool, "after")).max() > 1e-3
        pusher.push(2)
        assert differences(learner, sample(pool, "after")).max() < 1e-4


@pytest.mark.slow
def test_an_adapter_that_differs_in_one_tensor_is_found(learner, pool, model_dir):  # type: ignore[no-untyped-def]
    """The engine's slots are what is compared, and a base that was changed under the adapter is found as well."""
    set_up(learner, model_dir, LORA)
    pusher = HostPusher(learner, pool, CAP_BYTES)
    pusher.push(1)
    adapter = {}
    for bucket in pusher.buckets["adapter"]:
        buffer, sums = learner.gather_bucket(bucket)
        adapter |= sums
        wrong = ray.get(buffer).copy()
        if bucket is pusher.buckets["adapter"][0]:
            wrong[:4] = 63
        pool.on_all("load_bucket", bucket, ray.put(wrong))
    (found,) = pool.on_all("finish_update", 2, adapter)
    assert found == ["base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"]
    (bucket, *_) = pusher.buckets["base"]
    buffer, sums = learner.gather_bucket(bucket)
    wrong = ray.get(buffer).copy()
    wrong[:4] = 63
    pool.on_all("load_bucket", replace(bucket), ray.put(wrong))
    for adapter_bucket in pusher.buckets["adapter"]:
        pool.on_all("load_bucket", adapter_bucket, learner.gather_bucket(adapter_bucket)[0])
    (found,) = pool.on_all("finish_update", 3, sums | adapter)
    assert found == ["model.embed_tokens.weight"]
