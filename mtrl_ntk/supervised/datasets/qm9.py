"""QM9: eleven properties of small molecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.logs.streams import show_line
from mtrl_ntk.settings import LARGEST_SEED, Settings, number, setting
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.datasets.files import given
from mtrl_ntk.supervised.datasets.molecules import (
    BOND_KINDS,
    ELEMENTS,
    PROPERTIES,
    Molecules,
    read_processed,
    read_sdf,
)
from mtrl_ntk.supervised.tasks import Regression

_SOURCE = (
    "the folder of gdb9.sdf, gdb9.sdf.csv and uncharacterized.txt, or of qm9_v3.pt, which "
    "torch_geometric.datasets.QM9 downloads into its folder raw"
)
_NODE_FEATURES = len(ELEMENTS) + 6
"""Which element; atomic number; aromaticity and three hybridisations; hydrogens bound."""


@dataclass(frozen=True)
class QM9Config(Settings):
    """Settings of QM9."""

    data_dir: Path | None = setting(None, decides="nothing")
    """Folder of the files, or the one above raw."""
    test_molecules: int = number(10_000, at_least=1, limit=10**6)
    """Molecules to measure on."""
    validation_molecules: int = number(10_000, at_least=1, limit=10**6)
    """Molecules to choose by, as schedules do."""
    split_seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    """Seed of the split, which is the same for all runs; the published code draws one per run."""


class QM9(Dataset):
    """Eleven properties of some 130 000 molecules of up to 29 atoms, normalised.

    Molecules are complete graphs as in Nash-MTL's code: atoms have eleven features, pairs of atoms
    the kind of their bond and their distance. Of the features aromaticity and hybridisation are
    zero, as they are in the files of PyTorch Geometric (its issue 8370).
    """

    name = "qm9"
    title = "properties of small molecules"
    config_class = QM9Config
    task_names = tuple(PROPERTIES)
    networks = ("message_passing",)
    splits = ("train", "validation", "test")
    inputs = (_NODE_FEATURES, BOND_KINDS + 1)

    def __init__(self, config: QM9Config) -> None:
        self._molecules = _read(given(config.data_dir, self.name, _SOURCE))
        size = len(self._molecules.values)
        held_out = config.test_molecules + config.validation_molecules
        if size < held_out + 2:
            raise ConfigError(
                f"there are {size} molecules, too few to learn from with {held_out} held out; see "
                "--test-molecules and --validation-molecules"
            )
        order = np.random.default_rng(config.split_seed).permutation(size)
        cuts = [config.test_molecules, held_out]
        self._members = dict(
            zip(("test", "validation", "train"), np.split(order, cuts), strict=True)
        )
        training = self._molecules.values[self._members["train"]]
        means, scales = training.mean(0), training.std(0, ddof=1)
        scales[scales == 0] = 1.0
        self._targets = torch.from_numpy((self._molecules.values - means) / scales).float()
        self.tasks = tuple(
            Regression(name, each.unit, float(scale))
            for (name, each), scale in zip(PROPERTIES.items(), scales, strict=True)
        )

    def size(self, split: str) -> int:
        """Molecules of a split."""
        return len(self._members[split])

    def batch(
        self,
        split: str,
        indices: Sequence[int],
        generator: torch.Generator | None = None,  # noqa: ARG002 - molecules are learnt as they are
    ) -> Examples:
        """Some molecules of a split, filled up to the largest of them.

        Inputs are ``atoms`` ``[rows, atoms, features]``, ``pairs`` ``[rows, atoms, atoms,
        features]`` and ``mask`` ``[rows, atoms]``, which is true where there is an atom.
        """
        members = self._members[split][np.asarray(indices, np.int64)]
        targets = self._targets[members]
        return Examples(
            graphs(self._molecules, members), dict(zip(self.task_names, targets.T, strict=True))
        )


def graphs(molecules: Molecules, members: NDArray[np.int64]) -> dict[str, Tensor]:
    """Molecules as complete graphs, as :meth:`QM9.batch` gives them."""
    spans = [slice(*molecules.atoms[member : member + 2]) for member in members]
    most = max(span.stop - span.start for span in spans)
    numbers = np.zeros((len(members), most), np.int64)
    positions = np.zeros((len(members), most, 3), np.float32)
    pairs = np.zeros((len(members), most, most, BOND_KINDS + 1), np.float32)
    for row, (member, span) in enumerate(zip(members, spans, strict=True)):
        count = span.stop - span.start
        numbers[row, :count] = molecules.numbers[span]
        positions[row, :count] = molecules.positions[span]
        bonds = slice(*molecules.bonds[member : member + 2])
        first, second = molecules.ends[bonds].T
        pairs[row, first, second, molecules.kinds[bonds]] = 1.0
        pairs[row, second, first, molecules.kinds[bonds]] = 1.0
    mask = numbers > 0
    both = mask[:, :, None] & mask[:, None]
    bound = pairs.any(-1)
    pairs[..., -1] = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1) * both
    elements = numbers[..., None] == np.array([*ELEMENTS.values()])
    unknown = np.zeros((*numbers.shape, 4))
    hydrogens = (bound & (numbers == 1)[:, None]).sum(-1)
    parts = [elements, numbers[..., None], unknown, hydrogens[..., None]]
    atoms = np.concatenate(parts, axis=-1).astype(np.float32)
    found = {"atoms": atoms, "pairs": pairs, "mask": mask}
    return {name: torch.from_numpy(part) for name, part in found.items()}


def _read(folder: Path) -> Molecules:
    for place in (folder, folder / "raw"):
        if (place / "qm9_v3.pt").exists():
            return read_processed(place / "qm9_v3.pt")
        if (place / "gdb9.sdf").exists() and (place / "gdb9.sdf.csv").exists():
            if not (place / "uncharacterized.txt").exists():
                show_line(
                    f"{place} has no uncharacterized.txt: molecules are in that published results "
                    "leave out"
                )
            return read_sdf(place)
    raise ConfigError(
        f"{folder} has neither gdb9.sdf with gdb9.sdf.csv nor qm9_v3.pt; qm9 needs {_SOURCE}"
    )
