"""Scoring: reward functions in killable processes, behind Ray actors."""
