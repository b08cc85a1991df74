"""Where prompts come from: files, hub datasets, procedural generators; how a question becomes a prompt."""
