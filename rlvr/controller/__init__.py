"""The loops: stages, evaluation, accounting, run checkpoints. Runs in the driver; holds no weights."""
