"""The networks by name; adding one is a file here and a line below."""

from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.networks.segnet import SegNet
from mtrl_ntk.supervised.networks.small_cnn import SmallCNN

NETWORKS: dict[str, type[Network]] = {network.name: network for network in (SegNet, SmallCNN)}
"""Class of each kind of network by name."""
