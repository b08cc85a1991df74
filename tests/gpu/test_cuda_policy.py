"""A policy on CUDA: packed rows equal sequences alone, its own logits and the CPU's; a learner rank's step too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.gpu.conftest import needs, save_model

VOCABULARY = 64


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(
        tmp_path_factory.mktemp("model"),
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )


def sequences(count: int = 12) -> list[Any]:
    from rlvr.learner.batch import TrainSequence

    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        length = int(rng.integers(20, 200))
        mask = np.arange(length) >= length // 3
        behavior = rng.normal(-4.0, 0.2, length)
        advantage = np.full(length, rng.normal())
        made.append(TrainSequence(rng.integers(0, VOCABULARY, length), mask, behavior, advantage, number))
    return made


def batches(made: list[Any], micro: list[list[int]], device: str) -> list[Any]:
    from rlvr.learner.batch import collate, make_shard

    shard = make_shard(made, [1.0] * len(made), [micro])
    return [collate(shard, rows, device) for rows in shard.mini_batches[0]]


def load(model_dir: str, dtype: str, device: str, attention: str = "varlen_sdpa") -> Any:
    from rlvr.learner.policy import load_policy
    from rlvr.recipe.schema import LearnerConfig

    return load_policy(model_dir, LearnerConfig(dtype=dtype, attention=attention), False).to(device)


def by_sequence(policy: Any, made: list[Any], micro: list[list[int]], device: str) -> dict[int, torch.Tensor]:
    """Logprobs of each sequence's loss tokens."""
    found = {}
    for batch in batches(made, micro, device):
        with torch.no_grad():
            logprobs, _ = policy(batch, 0.8)
        found |= dict(zip(batch.rows, (part.float().cpu() for part in logprobs.split(batch.row_tokens)), strict=True))
    return found


@needs("transformers", "pydantic")
@pytest.mark.parametrize("attention", ["varlen_sdpa", "sdpa"])
@pytest.mark.parametrize(("dtype", "tolerance", "from_cpu"), [("float32", 1e-4, 1e-5), ("bfloat16", 0.1, 0.03)])
def test_packed_equals_alone_and_the_cpu(
    model_dir: str, dtype: str, tolerance: float, from_cpu: float, attention: str
) -> None:
    """Nats: packed against alone at most the probe's tolerance, against float32 on the CPU on average `from_cpu`."""
    made = sequences()
    everything, each = [list(range(len(made)))], [[number] for number in range(len(made))]
    policy = load(model_dir, dtype, "cuda", attention)
    packed, alone = (by_sequence(policy, made, micro, "cuda") for micro in (everything, each))
    expected = by_sequence(load(model_dir, "float32", "cpu"), made, each, "cpu")
    assert packed.keys() == set(range(len(made)))
    for number in packed:
        assert (packed[number] - alone[number]).abs().max() < tolerance
        assert (packed[number] - expected[number]).abs().mean() < from_cpu


@needs("transformers", "pydantic")
def test_packed_equals_the_models_own_padded_logits(model_dir: str) -> None:
    """transformers on a right-padded batch with its mask, against one packed row without any."""
    from transformers import AutoModelForCausalLM

    made = sequences(6)
    packed = by_sequence(load(model_dir, "float32", "cuda"), made, [list(range(6))], "cuda")
    longest = max(len(sequence.token_ids) for sequence in made)
    ids = torch.zeros(6, longest, dtype=torch.long, device="cuda")
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(made):
        ids[row, : len(sequence.token_ids)] = torch.as_tensor(sequence.token_ids, dtype=torch.long)
        mask[row, : len(sequence.token_ids)] = 1
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).cuda().eval()
    with torch.no_grad():
        logprobs = (model(input_ids=ids, attention_mask=mask).logits / 0.8).log_softmax(-1)
    for row, sequence in enumerate(made):
        positions = torch.as_tensor(np.flatnonzero(sequence.loss_mask))
        theirs = logprobs[row, positions - 1].gather(-1, ids[row, positions, None])[:, 0].cpu()
        assert (packed[row] - theirs).abs().max() < 1e-4


def trained(model_dir: str, device: str, **settings: Any) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Weights and mean metrics after two steps of one rank."""
    import ray

    from rlvr.learner.group import LearnerGroup
    from rlvr.metrics import means
    from rlvr.recipe.schema import LearnerConfig, LearnerResources, ObjectiveConfig, OptimizerConfig, ResourcesConfig
    from rlvr.transfer.buckets import plan_buckets, unpack

    group = LearnerGroup(ResourcesConfig(learners=LearnerResources(count=1), step_timeout_s=120.0), device)
    try:
        group.start()
        config = LearnerConfig(optimizer=OptimizerConfig(lr=1e-3, eps=1e-4), **settings)
        group.setup(model_dir, config, 2, 0, reference=False)
        for step in range(2):
            metrics = means(group.train_rl(sequences(), ObjectiveConfig(), 1.0, 256, step))
        weights = {}
        for bucket in plan_buckets(group.parameter_specs(), "float32", 1 << 20):
            buffer = ray.get(group.gather_bucket(bucket)[0], timeout=60)
            weights |= {name: tensor.numpy().copy() for name, tensor in unpack(bucket, buffer)}
        return weights, metrics
    finally:
        group.close()


@needs("transformers", "pydantic", "ray", "deepspeed")
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_rank_on_the_gpu_steps_as_one_on_the_cpu(ray_cluster: None, model_dir: str, stage: int) -> None:
    """Two steps of AdamW in float32. eps is large beside the difference of two gradients that should be 0."""
    ours, metrics = trained(model_dir, "cuda", zero_stage=stage)
    theirs, expected = trained(model_dir, "cpu", zero_stage=stage)
    assert metrics["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs) < 1e-4
    start = load(model_dir, "float32", "cpu").model.state_dict()
    assert max(float(np.abs(ours[name] - start[name].numpy()).max()) for name in ours) > 5e-4, "the steps did nothing"


@needs("transformers", "pydantic", "ray", "deepspeed")
def test_a_bfloat16_rank_follows_the_float32_one(ray_cluster: None, model_dir: str) -> None:
    ours, metrics = trained(model_dir, "cuda", zero_stage=2, dtype="bfloat16")
    theirs, expected = trained(model_dir, "cuda", zero_stage=2, dtype="float32")
    assert metrics["grad_norm"] == pytest.approx(expected["grad_norm"], rel=0.1)
    # Two steps of 1e-3, in the direction of the other's or, where a gradient is near 0, against it: 4e-3 apart at most;
    # weights of up to 0.5 are rounded by 1e-3 on the way here.
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs) < 6e-3
