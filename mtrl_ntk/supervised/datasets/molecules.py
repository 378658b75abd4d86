"""Molecules from the files of QM9: atoms, bonds, positions and properties."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl_ntk.errors import ConfigError

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
"""Atomic numbers of the elements that there are."""
BOND_KINDS = 4
"""Single, double, triple and aromatic bonds; MDL files number them from 1."""
_HARTREE_MEV = 27211.386246
_KCAL_MOL_MEV = 43.36414


class Property(NamedTuple):
    """A property of molecules."""

    column: str
    """What ``gdb9.sdf.csv`` calls it."""
    place: int
    """Where it stands in the processed files of PyTorch Geometric, in eV where those are."""
    unit: str
    """The unit that errors are reported in."""
    per_column: float = 1.0
    """What one of the column is in that unit."""
    per_place: float = 1.0
    """What one of the processed files is in that unit."""


PROPERTIES = {
    "mu": Property("mu", 0, "D"),
    "alpha": Property("alpha", 1, "a0³"),
    "homo": Property("homo", 2, "meV", _HARTREE_MEV, 1000),
    "lumo": Property("lumo", 3, "meV", _HARTREE_MEV, 1000),
    "r2": Property("r2", 5, "a0²"),
    "zpve": Property("zpve", 6, "meV", _HARTREE_MEV, 1000),
    "u0": Property("u0_atom", 12, "meV", _KCAL_MOL_MEV, 1000),
    "u": Property("u298_atom", 13, "meV", _KCAL_MOL_MEV, 1000),
    "h": Property("h298_atom", 14, "meV", _KCAL_MOL_MEV, 1000),
    "g": Property("g298_atom", 15, "meV", _KCAL_MOL_MEV, 1000),
    "cv": Property("cv", 11, "cal/(mol K)"),
}
"""The eleven properties of the papers; energies and enthalpies are those of atomisation."""


class Molecules(NamedTuple):
    """Molecules one after the other."""

    atoms: NDArray[np.int64]
    """Where each molecule's atoms begin, and the end of the last, ``[molecules + 1]``."""
    numbers: NDArray[np.int64]
    """Atomic number of each atom, ``[atoms]``."""
    positions: NDArray[np.float32]
    """Ångström, ``[atoms, 3]``."""
    bonds: NDArray[np.int64]
    """Where each molecule's bonds begin, ``[molecules + 1]``."""
    ends: NDArray[np.int64]
    """The two atoms of each bond within its molecule, ``[bonds, 2]``."""
    kinds: NDArray[np.int64]
    """Kind of each bond from 0, ``[bonds]``."""
    values: NDArray[np.float64]
    """The properties in their units, ``[molecules, 11]``."""


class _Molecule(NamedTuple):
    numbers: Sequence[int]
    positions: Sequence[Sequence[float]]
    ends: Sequence[tuple[int, int]]
    kinds: Sequence[int]


def read_sdf(folder: Path) -> Molecules:
    """Molecules of ``gdb9.sdf`` with the properties of ``gdb9.sdf.csv``.

    Those of ``uncharacterized.txt`` are left out if that file is there.

    Raises:
        ConfigError: A file is not as QM9's are.
    """
    properties = _read_properties(folder / "gdb9.sdf.csv")
    skipped = _read_skipped(folder / "uncharacterized.txt")
    kept = [index for index in range(len(properties)) if index + 1 not in skipped]
    path = folder / "gdb9.sdf"
    try:
        with path.open(encoding="utf-8") as lines:
            molecules = [
                molecule
                for index, molecule in enumerate(_read_molecules(lines, path))
                if index + 1 not in skipped
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if len(molecules) != len(kept):
        raise ConfigError(
            f"{path} has {len(molecules)} molecules and gdb9.sdf.csv {len(kept)}; is it whole?"
        )
    return _joined(molecules, properties[kept])


def read_processed(path: Path) -> Molecules:
    """Molecules of ``qm9_v3.pt``, the list that PyTorch Geometric makes its own file of.

    Raises:
        ConfigError: It is another file.
    """
    try:
        found = torch.load(path, weights_only=True)
        molecules = [_of_processed(each) for each in found]
        values = torch.cat([each["y"].reshape(1, -1) for each in found]).double().numpy()
        places = np.array([each.place for each in PROPERTIES.values()])
        scales = np.array([each.per_place for each in PROPERTIES.values()])
        if not np.isfinite(values[:, places]).all():
            raise ValueError("a property that is no number")
        return _joined(molecules, values[:, places] * scales)
    except Exception as error:  # whatever a foreign file makes of unpickling
        raise ConfigError(f"{path} is no list of molecules as in qm9_v3.pt: {error}") from None


def _of_processed(found: Mapping[str, Tensor]) -> _Molecule:
    starts, stops = found["edge_index"].tolist()
    kinds = found["edge_attr"].argmax(1).tolist()
    pairs = zip(starts, stops, kinds, strict=True)
    once = [(start, stop, kind) for start, stop, kind in pairs if start < stop]
    molecule = _Molecule(
        found["z"].tolist(),
        found["pos"].tolist(),
        [(start, stop) for start, stop, _ in once],
        [kind for _, _, kind in once],
    )
    _check(molecule)
    return molecule


def _joined(molecules: Sequence[_Molecule], values: NDArray[np.float64]) -> Molecules:
    def bounds(lists: Iterable[Sequence[object]]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)

    return Molecules(
        bounds(each.numbers for each in molecules),
        np.array([each for one in molecules for each in one.numbers], np.int64),
        np.array([each for one in molecules for each in one.positions], np.float32).reshape(-1, 3),
        bounds(each.kinds for each in molecules),
        np.array([each for one in molecules for each in one.ends], np.int64).reshape(-1, 2),
        np.array([each for one in molecules for each in one.kinds], np.int64),
        values,
    )


def _read_molecules(lines: Iterator[str], path: Path) -> Iterator[_Molecule]:
    """The molecules of an MDL file, V2000."""
    number = 0
    while (header := list(islice(lines, 4))) and any(map(str.strip, header)):
        number += 1
        try:
            num_atoms, num_bonds = int(header[3][:3]), int(header[3][3:6])
            atoms = [line.split() for line in islice(lines, num_atoms)]
            bonds = [(line[:3], line[3:6], line[6:9]) for line in islice(lines, num_bonds)]
            molecule = _Molecule(
                [ELEMENTS[atom[3]] for atom in atoms],
                [[float(place) for place in atom[:3]] for atom in atoms],
                [(int(start) - 1, int(stop) - 1) for start, stop, _ in bonds],
                [int(kind) - 1 for _, _, kind in bonds],
            )
            if len(atoms) != num_atoms or len(bonds) != num_bonds:
                raise ValueError("the file ends")
            _check(molecule)
        except (IndexError, KeyError, ValueError) as error:
            raise ConfigError(f"{path}: molecule {number} cannot be read: {error}") from None
        yield molecule
        for line in lines:
            if line.startswith("$$$$"):
                break


def _check(molecule: _Molecule) -> None:
    count = len(molecule.numbers)
    if not all(0 <= end < count for ends in molecule.ends for end in ends):
        raise ValueError("a bond of an atom that there is not")
    if not all(0 <= kind < BOND_KINDS for kind in molecule.kinds):
        raise ValueError("a bond that is none of four kinds")
    if not molecule.numbers or not {*molecule.numbers} <= {*ELEMENTS.values()}:
        raise ValueError(f"atoms other than {', '.join(ELEMENTS)}")
    if not all(math.isfinite(place) for position in molecule.positions for place in position):
        raise ValueError("an atom whose place is no number")


def _read_properties(path: Path) -> NDArray[np.float64]:
    """The properties in their units, ``[molecules, 11]``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        values = np.array(
            [
                [float(row[each.column]) * each.per_column for each in PROPERTIES.values()]
                for row in rows
            ]
        ).reshape(-1, len(PROPERTIES))
    except KeyError as error:
        raise ConfigError(f"{path} has no column {error}") from None
    except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    broken = [index for index, row in enumerate(values, 1) if not all(map(math.isfinite, row))]
    if broken:
        raise ConfigError(f"{path}: molecule {broken[0]} has a property that is no number")
    return values


def _read_skipped(path: Path) -> set[int]:
    """Numbers of the molecules whose geometry is inconsistent, of lines that begin with one."""
    if not path.exists():
        return set()
    try:
        words = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return {int(line[0]) for line in words if line and line[0].isdecimal()}
