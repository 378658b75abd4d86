"""The data sets by name; adding one is a file here and a line below."""

from mtrl_ntk.supervised.datasets.dataset import Dataset
from mtrl_ntk.supervised.datasets.digits import Digits
from mtrl_ntk.supervised.datasets.scenes import Scenes

DATASETS: dict[str, type[Dataset]] = {dataset.name: dataset for dataset in (Scenes, Digits)}
"""Class of each data set by name."""
