"""Multi-task Soft Actor-Critic on Meta-World, balanced by neural tangent kernels."""

__version__ = "0.1.0"
