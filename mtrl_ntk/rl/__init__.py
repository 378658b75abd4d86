"""Reinforcement learning: environments, replay, networks, losses and the agent."""
