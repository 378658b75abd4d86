"""The balancing methods by name; adding one is a file here and a line below."""

from importlib import import_module

from mtrl_ntk.balancing.weighting import Weighting

_CLASSES = {
    "aligned_mtl": "AlignedMTL",
    "cagrad": "CAGrad",
    "db_mtl": "DBMTL",
    "dwa": "DWA",
    "equal": "Equal",
    "fairgrad": "FairGrad",
    "famo": "FAMO",
    "go4align": "GO4Align",
    "graddrop": "GradDrop",
    "gradnorm": "GradNorm",
    "imgrad": "IMGrad",
    "imtl_g": "IMTLG",
    "mgda": "MGDA",
    "moco": "MoCo",
    "nash_mtl": "NashMTL",
    "ntkmtl": "NTKMTL",
    "ntkmtl_sr": "NTKMTLSR",
    "pcgrad": "PCGrad",
    "rlw": "RLW",
    "sdmgrad": "SDMGrad",
    "si": "SI",
    "slaw": "SLAW",
    "stch": "STCH",
    "unit_norm": "UnitNorm",
    "upgrad": "UPGrad",
    "uw": "UW",
}
"""Name of each method, which is that of its file, and of its class."""

METHODS: dict[str, type[Weighting]] = {
    name: getattr(import_module(f"{__name__}.{name}"), class_name)
    for name, class_name in _CLASSES.items()
}
"""Class of each method by name."""


def is_own(method: type[Weighting]) -> bool:
    """Whether a method is one of this package, whose tests see that all its state is in tensors."""
    return method.__module__.startswith(f"{__name__}.")
