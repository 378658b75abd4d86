"""The balancing methods by name; adding one is a file here and a line below."""

from mtrl_ntk.balancing.methods.equal import Equal
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.balancing.methods.unit_norm import UnitNorm
from mtrl_ntk.balancing.weighting import Weighting

METHODS: dict[str, type[Weighting]] = {
    "equal": Equal,
    "ntkmtl": NTKMTL,
    "unit_norm": UnitNorm,
}

__all__ = ["METHODS", "NTKMTL", "Equal", "UnitNorm"]
