"""Completions: engines in Ray actors, behind one interface of token ids in and token ids out."""
