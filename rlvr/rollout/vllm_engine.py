"""vLLM as a rollout engine, inside this process. The one file that imports vllm.

The engine core runs in the actor's own process (VLLM_ENABLE_V1_MULTIPROCESSING=0): on two cores it starts twice as
fast and decodes 1.7 times as fast as with a core process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlvr.models.tokenizer import load_tokenizer
from rlvr.records import FinishReason, SamplingParams
from rlvr.rollout.engine import Completion, EngineSpec, Request
from rlvr.transfer.buckets import PEFT_PREFIX, WORD_MODULUS, Bucket, checksum, checksums, mismatches, unpack

if TYPE_CHECKING:
    import numpy as np


ADAPTER_ID = 1  # of the one adapter that an engine has at a time
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # vLLM makes room for one of these


class WorkerExtension:
    """Methods that vLLM mixes into its worker; called through `collective_rpc`."""

    model_runner: Any
    model_config: Any
    vllm_config: Any
    rlvr_adapter: dict[str, Any]

    def rlvr_load_bucket(self, bucket: Bucket, buffer: np.ndarray) -> None:
        if bucket.form == "adapter":
            held = self.__dict__.setdefault("rlvr_adapter", {})
            held |= {name: tensor.clone() for name, tensor in unpack(bucket, buffer)}
            return
        # Weights of an unquantised CPU model stay plain parameters here (`_keep_weights_in_place`).
        self.model_runner.model.load_weights(iter(unpack(bucket, buffer)))

    def rlvr_apply_adapter(self) -> None:
        """Puts the adapter whose buckets were loaded in the place of the one before; nothing touches a disk."""
        from vllm.lora.lora_model import LoRAModel
        from vllm.lora.peft_helper import PEFTHelper

        workers = self.model_runner.lora_manager
        slots = workers._adapter_manager
        tensors, self.rlvr_adapter = self.rlvr_adapter, {}
        rank = next(tensor.shape[0] for name, tensor in tensors.items() if name.endswith(".lora_A.weight"))
        # B comes scaled already, and alpha = rank leaves it as it is.
        config = {"r": rank, "lora_alpha": rank, "target_modules": []}
        mapper = getattr(slots.model, "hf_to_vllm_mapper", None)
        adapter = LoRAModel.from_lora_tensors(
            ADAPTER_ID,
            tensors,
            PEFTHelper.from_dict(config),
            device="cpu",
            dtype=workers.lora_config.lora_dtype,
            model_vocab_size=workers.vocab_size,
            weights_mapper=mapper.get_rename_mapper() if mapper is not None else None,
            skip_prefixes=getattr(slots.model, "lora_skip_prefixes", None),
        )
        slots.remove_adapter(ADAPTER_ID)
        slots.add_adapter(adapter)
        slots.activate_adapter(ADAPTER_ID)

    def rlvr_begin_reload(self) -> None:
        """GPU kernels may hold weights in an order of their own; so reloaded, they arrive as at the first load."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        with set_current_vllm_config(self.vllm_config):
            initialize_layerwise_reload(self.model_runner.model)

    def rlvr_end_reload(self) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(self.model_runner.model, self.model_config)

    def rlvr_checksums(self) -> dict[str, int]:
        """Of what the model computes with: its weights, and the adapter in the slot that requests use."""
        parameters = self.model_runner.model.named_parameters()
        # A layer that an adapter may fit is wrapped, and its own weight is one name further down.
        sums = checksums((name.replace(".base_layer.", "."), parameter) for name, parameter in parameters)
        workers = getattr(self.model_runner, "lora_manager", None)
        if workers is None or ADAPTER_ID not in workers._adapter_manager.lora_index_to_id:
            return sums
        slot = workers._adapter_manager.lora_index_to_id.index(ADAPTER_ID)
        for name, layer in workers._adapter_manager.modules.items():
            for key, stacked in (("lora_A", layer.lora_a_stacked), ("lora_B", layer.lora_b_stacked)):
                # One for each of the layers that vLLM has fused into this one.
                parts = stacked if isinstance(stacked, tuple) else (stacked,)
                sums[f"{PEFT_PREFIX}{name}.{key}.weight"] = sum(checksum(part[slot]) for part in parts) % WORD_MODULUS
        return sums

    def rlvr_packed_modules(self) -> dict[str, list[str]]:
        return dict(getattr(self.model_runner.model, "packed_modules_mapping", {}))


class VllmEngine:
    """One vLLM engine; tensor-parallel over the GPUs that Ray gave this actor."""

    def __init__(self, spec: EngineSpec) -> None:
        import torch
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        on_cpu = spec.device == "cpu"
        if on_cpu:
            _keep_weights_in_place()
            torch.set_num_threads(spec.threads)
        self.spec = spec
        self.tokenizer = load_tokenizer(spec.model_dir, trust_remote_code=spec.trust_remote_code)
        arguments: dict[str, Any] = {
            "model": spec.model_dir,
            "dtype": spec.dtype,
            "max_model_len": spec.context_length,
            "max_num_seqs": spec.max_concurrent,
            "tensor_parallel_size": spec.tensor_parallel,
            # Ray places the workers of one engine into its bundles, on one node or several.
            "distributed_executor_backend": "ray" if spec.tensor_parallel > 1 else None,
            "enforce_eager": spec.enforce_eager or on_cpu,
            "enable_prefix_caching": spec.prefix_caching,
            "enable_sleep_mode": spec.sleep_mode,
            "trust_remote_code": spec.trust_remote_code,
            "skip_tokenizer_init": True,
            # The sampled distribution is what the request says, never what the model ships as defaults.
            "generation_config": "vllm",
            "logprobs_mode": "processed_logprobs",
            "worker_extension_cls": "rlvr.rollout.vllm_engine.WorkerExtension",
            "disable_log_stats": True,
        }
        if on_cpu:
            # After each chunk of a prompt vLLM rewinds the request's random numbers, which CPU generators cannot do.
            arguments["enable_chunked_prefill"] = False
            arguments |= {"kv_cache_memory_bytes": spec.kv_cache_bytes, "block_size": 32}
        else:
            arguments |= {"gpu_memory_utilization": spec.gpu_memory_utilization}
        if spec.lora_rank:
            rank = next(rank for rank in SERVED_RANKS if rank >= spec.lora_rank)
            modules = list(spec.lora_modules) if spec.lora_modules is not None else None
            arguments |= {"enable_lora": True, "max_lora_rank": rank, "lora_target_modules": modules}
        if spec.transfer_backend:
            arguments |= {"weight_transfer_config": {"backend": spec.transfer_backend}}
        self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self.asleep: set[str] = set()
        self._reloading = False
        self.packed_modules = self.engine.collective_rpc("rlvr_packed_modules")[0]
        self.adapter: Any = None

    def add(self, request: Request) -> None:
        from vllm.inputs import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
        sampling = _to_vllm(request.sampling, request.seed)
        self.engine.add_request(request.id, prompt, sampling, lora_request=self.adapter)

    def step(self) -> list[Completion]:
        return [_to_completion(output) for output in self.engine.step() if output.finished]

    def has_unfinished(self) -> bool:
        return self.engine.has_unfinished_requests()

    def load_bucket(self, bucket: Bucket, buffer: np.ndarray) -> None:
        if self.spec.device != "cpu" and not self._reloading and not bucket.names[0].startswith(PEFT_PREFIX):
            self.engine.collective_rpc("rlvr_begin_reload")
            self._reloading = True
        self.engine.collective_rpc("rlvr_load_bucket", args=(bucket, buffer))

    def finish_update(self, version: int, sent: Mapping[str, int]) -> list[str]:
        if self._reloading:
            self.engine.collective_rpc("rlvr_end_reload")
            self._reloading = False
        self.adapter = None
        if any(name.startswith(PEFT_PREFIX) for name in sent):
            from vllm.lora.request import LoRARequest

            self.engine.collective_rpc("rlvr_apply_adapter")
            # vLLM wants a path; it would look there only for an adapter that is not in its slots, and find nothing.
            self.adapter = LoRARequest("policy", ADAPTER_ID, "/nonexistent/the-adapter-is-sent-in-memory")
        # Cached keys and values belong to the old weights; a stale prefix is off by nats, silently.
        if not self.engine.reset_prefix_cache():
            raise RuntimeError("vLLM refused to reset its prefix cache: requests are still running")
        self.engine.reset_mm_cache()
        self.engine.reset_encoder_cache()
        self.engine.set_weight_version(str(version))
        return mismatches(sent, self.engine.collective_rpc("rlvr_checksums"), self.packed_modules)

    def collective_rpc(self, method: str, *args: Any) -> list[Any]:
        """vLLM's own weight-transfer calls, for the CUDA transports."""
        return self.engine.collective_rpc(method, args=args)

    def sleep(self) -> None:
        if self.spec.sleep_mode and not self.asleep:
            # Level 2 drops the weights: the learner sends new ones before the next rollout anyway. Where it sends
            # adapters only, level 1 keeps their base in host memory.
            self.engine.sleep(level=1 if self.spec.lora_rank else 2)
            self.asleep = {"weights", "kv_cache"}

    def wake(self, part: str) -> None:
        # vLLM only warns of a part that is awake, and then wakes nothing; it decodes again once all parts are awake.
        if part in self.asleep:
            self.engine.wake_up(tags=[part])
            self.asleep.remove(part)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))


def _keep_weights_in_place() -> None:
    """Has vLLM's CPU build compute linear layers from the plain parameters.

    By default it repacks them into oneDNN handles that `load_weights` cannot reach, so that an updated model would go
    on computing with the old weights. TODO(a vLLM whose CPU linear layers reload): drop this.
    """
    import torch
    from vllm.model_executor.layers import utils

    def dispatch(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = dispatch


def _to_vllm(sampling: SamplingParams, seed: int) -> Any:
    import vllm
    from vllm.sampling_params import RequestOutputKind

    return vllm.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        max_tokens=sampling.max_completion_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        # The stop ids above are all there are: no eos is taken from the model's own configuration.
        ignore_eos=True,
        seed=seed if sampling.temperature > 0 else None,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _to_completion(output: Any) -> Completion:
    """From vLLM's RequestOutput, with flat logprobs of the sampled tokens only."""
    result = output.outputs[0]
    logprobs = list(result.logprobs.logprobs)
    assert len(logprobs) == len(result.token_ids), (len(logprobs), len(result.token_ids))
    reason: FinishReason = result.finish_reason if result.finish_reason in ("stop", "length") else "abort"
    return Completion(output.request_id, list(result.token_ids), logprobs, reason)
