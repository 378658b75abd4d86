"""Checkpoints, and all that a run goes on from."""
