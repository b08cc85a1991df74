"""Weights from the learner to the engines: buckets, versions, checksums."""
