"""What a run shows and keeps: statistics, logs, the token waterfall, live progress, the summary; all without torch."""
