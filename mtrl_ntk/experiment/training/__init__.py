"""A run of training."""

from mtrl_ntk.experiment.training.callbacks import Callback, RunView
from mtrl_ntk.experiment.training.run import train

__all__ = ["Callback", "RunView", "train"]
