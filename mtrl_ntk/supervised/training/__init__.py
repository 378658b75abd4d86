"""Runs of supervised learning."""
