"""A run of training."""

from mtrl_ntk.experiment.training.run import train

__all__ = ["train"]
