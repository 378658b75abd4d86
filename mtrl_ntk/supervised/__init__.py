"""Supervised learning of several tasks from one input, balanced as reinforcement learning is."""
