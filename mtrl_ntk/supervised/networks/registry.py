"""The networks by name; adding one is a file here and a line below."""

from mtrl_ntk.supervised.networks.cnn9 import CNN9
from mtrl_ntk.supervised.networks.message_passing import MessagePassing
from mtrl_ntk.supervised.networks.mtan import MTAN
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.networks.segnet import SegNet
from mtrl_ntk.supervised.networks.small_cnn import SmallCNN

NETWORKS: dict[str, type[Network]] = {
    network.name: network for network in (SegNet, MTAN, CNN9, MessagePassing, SmallCNN)
}
"""Class of each kind of network by name."""
