"""The data sets by name; adding one is a file here and a line below."""

from mtrl_ntk.supervised.datasets.celeba import CelebA
from mtrl_ntk.supervised.datasets.cityscapes import Cityscapes
from mtrl_ntk.supervised.datasets.dataset import Dataset
from mtrl_ntk.supervised.datasets.digits import Digits
from mtrl_ntk.supervised.datasets.nyuv2 import NYUv2
from mtrl_ntk.supervised.datasets.qm9 import QM9
from mtrl_ntk.supervised.datasets.scenes import Scenes

DATASETS: dict[str, type[Dataset]] = {
    dataset.name: dataset for dataset in (Scenes, Digits, NYUv2, Cityscapes, CelebA, QM9)
}
"""Class of each data set by name."""
