"""Pure functions of reinforcement learning with verifiable rewards: tensors and floats in, tensors out.

Nothing here reads a config, logs, or talks to another process. The value of a token and the reduction over tokens are
separate functions, and the denominator is always an explicit argument: that is where implementations silently disagree.
"""
