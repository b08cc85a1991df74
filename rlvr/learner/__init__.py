"""How a batch becomes optimizer steps: DeepSpeed engines in Ray actors, packed sequences, chunked logprobs."""
