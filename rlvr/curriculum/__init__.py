"""Which prompts come next, and what is learnt from their outcomes."""
