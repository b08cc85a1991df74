"""Engines on CUDA: checksums, weights through host memory, sleep that frees memory, a staged wake."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.gpu.conftest import needs, save_model

GIB = 1 << 30
TOKENS = [5, 6, 7, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """About 0.4 GiB in float32, so that what sleep frees is seen beside CUDA's own memory."""
    return save_model(
        tmp_path_factory.mktemp("model"),
        vocab_size=1024,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=8,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=512,
    )


def spec(kind: str, model_dir: str, **settings: Any) -> Any:
    from rlvr.rollout.engine import EngineSpec

    defaults = {"dtype": "float32", "device": "cuda", "context_length": 256, "max_concurrent": 16}
    return EngineSpec(kind=kind, model_dir=model_dir, **(defaults | settings))


def greedy(engine: Any) -> tuple[list[int], list[float]]:
    """Tokens and logprobs of one greedy completion."""
    from rlvr.records import SamplingParams
    from rlvr.rollout.engine import Request

    engine.add(Request("greedy", TOKENS, SamplingParams(temperature=0.0, max_completion_tokens=16), 0))
    done = []
    while engine.has_unfinished():
        done += engine.step()
    return done[0].token_ids, done[0].logprobs


def changed_weights(model_dir: str) -> Any:
    """The model with noise on every weight, on the CPU."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def send(engine: Any, model: Any, dtype: str = "float32") -> tuple[list[str], dict[str, int]]:
    """Through host memory in buckets of 16 MiB; (tensors that differ afterwards, checksums as sent)."""
    from rlvr.transfer.buckets import checksums, pack, plan_buckets, unpack

    named = dict(model.named_parameters())
    sums: dict[str, int] = {}
    for bucket in plan_buckets([(name, tuple(tensor.shape)) for name, tensor in named.items()], dtype, 16 << 20):
        buffer = pack(bucket, named)
        sums |= checksums(unpack(bucket, buffer))
        engine.load_bucket(bucket, buffer)
    return engine.finish_update(1, sums), sums


def expected_logprobs(model: Any, token_ids: list[int]) -> list[float]:
    """By one plain forward pass in float32 on the CPU."""
    ids = torch.tensor([[*TOKENS, *token_ids]])
    with torch.no_grad():
        logprobs = model(ids, use_cache=False).logits[0].log_softmax(-1)[len(TOKENS) - 1 : -1]
    return logprobs.gather(-1, ids[0, len(TOKENS) :, None])[:, 0].tolist()


def used() -> int:
    """Bytes of the GPU in use, by whomever."""
    free, total = torch.cuda.mem_get_info()
    return total - free


@needs()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checksums_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    """R7: the learner may sum on its GPU what the host sums in a bucket. NaN and -0.0 are words as any other."""
    from rlvr.transfer.buckets import Bucket, checksum, pack, unpack

    torch.manual_seed(0)
    tensor = torch.randn(1_000_003, dtype=dtype, device="cuda")
    tensor[:2] = torch.tensor([float("nan"), -0.0])
    bucket = Bucket(("w",), ((1_000_003,),), str(dtype).removeprefix("torch."))
    ((_, arrived),) = unpack(bucket, pack(bucket, {"w": tensor}))
    assert checksum(tensor) == checksum(tensor.cpu()) == checksum(arrived)
    tensor[17] += 1
    assert checksum(tensor) != checksum(arrived)


@needs("transformers")
def test_the_transformers_engine_takes_weights_and_sleeps(model_dir: str) -> None:
    from rlvr.rollout.engine import build_engine

    engine = build_engine(spec("transformers", model_dir, sleep_mode=True))
    model = changed_weights(model_dir)
    wrong, sums = send(engine, model)
    assert wrong == []
    name = "model.layers.1.self_attn.k_proj.weight"
    assert engine.finish_update(1, sums | {name: sums[name] + 1}) == [name]
    tokens, logprobs = greedy(engine)
    assert logprobs == pytest.approx(expected_logprobs(model, tokens), abs=1e-3)
    awake = torch.cuda.memory_allocated()
    engine.sleep()
    assert torch.cuda.memory_allocated() < awake - GIB // 4
    engine.wake("weights")
    engine.wake("kv_cache")
    assert greedy(engine)[0] == tokens


def sleep_and_wake(model_dir: str) -> dict[str, Any]:
    """In a process of its own: memory in use and completions of a vLLM engine at each stage of both levels of sleep."""
    from rlvr.rollout.vllm_engine import VllmEngine

    found: dict[str, Any] = {}
    engine = VllmEngine(spec("vllm", model_dir, sleep_mode=True, gpu_memory_utilization=0.3, enforce_eager=True))
    found["before"], found["awake"] = greedy(engine), used()
    engine.engine.sleep(level=1)
    found["asleep_1"] = used()
    engine.engine.wake_up()
    found["after_1"], found["awake_1"] = greedy(engine), used()

    model = changed_weights(model_dir)
    engine.sleep()
    found["asleep_2"] = used()
    engine.wake("weights")
    found["weights"], found["still_asleep"] = used(), engine.engine.is_sleeping()
    found["wrong"], _ = send(engine, model)
    engine.wake("kv_cache")
    found["awake_2"], found["woken"] = used(), not engine.engine.is_sleeping()
    found["after_2"] = greedy(engine)
    found["expected"] = expected_logprobs(model, found["after_2"][0])
    return found


@needs("vllm", "ray", "transformers", "pydantic")
def test_vllm_sleeps_at_both_levels_and_wakes_in_stages(ray_cluster: None, model_dir: str) -> None:
    """R7. Level 1 keeps the weights on the host; level 2 drops them, and the KV cache is mapped after they came."""
    import ray

    from rlvr.cluster.environment import engine_environment

    task = ray.remote(num_gpus=1, num_cpus=0, runtime_env={"env_vars": engine_environment(1, "cuda")})(sleep_and_wake)
    found = ray.get(task.remote(model_dir), timeout=500)
    total = torch.cuda.get_device_properties(0).total_memory
    kv_cache = 0.3 * total - 2 * GIB  # at least: beside it vLLM's share holds weights, activations and CUDA itself
    for asleep, awake in (("asleep_1", "awake_1"), ("asleep_2", "awake_2")):
        assert found[asleep] < found["awake"] - kv_cache
        assert found[awake] == pytest.approx(found["awake"], abs=GIB)
    assert found["after_1"][0] == found["before"][0]
    assert found["after_1"][1] == pytest.approx(found["before"][1], abs=1e-5)
    assert found["asleep_2"] + GIB // 4 < found["weights"] < found["awake_2"] - kv_cache / 2
    assert found["still_asleep"]
    assert found["woken"]
    assert found["wrong"] == []
    assert found["after_2"][1] == pytest.approx(found["expected"], abs=2e-3)
