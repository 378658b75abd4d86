"""Gymnasium environments of a user's own as a suite."""
