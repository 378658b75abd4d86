"""Molecules from QM9's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.molecules import PROPERTIES, read_processed, read_sdf
from tests.supervised.datasets.files_of_others import write_processed_qm9, write_qm9


def test_atoms_and_bonds_are_those_of_the_file(tmp_path: Path) -> None:
    found = read_sdf(write_qm9(tmp_path, 2, skipped=()))
    assert found.atoms.tolist() == [0, 5, 9]
    assert found.numbers.tolist() == [6, 1, 1, 1, 1, 6, 8, 1, 1]
    assert found.bonds.tolist() == [0, 4, 7]
    assert found.ends.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [0, 1], [0, 2], [0, 3]]
    assert found.kinds.tolist() == [0, 0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(found.positions[5], [-0.0140, 1.1968, 0.0112])


def test_properties_are_in_the_units_of_the_papers(tmp_path: Path) -> None:
    found = read_sdf(write_qm9(tmp_path, 1, skipped=()))
    values = dict(zip(PROPERTIES, found.values[0], strict=True))
    assert values == pytest.approx(
        {
            "mu": 0.0,
            "alpha": 13.21,
            "homo": -10549.9,  # -0.3877 hartree
            "lumo": 3186.5,
            "r2": 35.3641,
            "zpve": 1217.7,
            "u0": -17172.2,  # -396.0 kcal/mol, of atomisation
            "u": -17286.8,
            "h": -17389.7,
            "g": -16151.9,
            "cv": 6.469,
        },
        rel=1e-4,
    )


def test_molecules_whose_geometry_is_inconsistent_are_left_out(tmp_path: Path) -> None:
    found = read_sdf(write_qm9(tmp_path, 6, skipped=(2, 5)))
    assert len(found.values) == 4
    np.testing.assert_allclose(found.values[:, 0], [0, 2, 3, 5])
    assert np.diff(found.atoms).tolist() == [5, 5, 4, 4]


def test_the_processed_file_holds_the_same(tmp_path: Path) -> None:
    original = read_sdf(write_qm9(tmp_path, 1, skipped=()))
    processed = read_processed(write_processed_qm9(tmp_path, 1) / "qm9_v3.pt")
    for name in original._fields:
        one, other = getattr(original, name), getattr(processed, name)
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" C   0", " Xx  0", "molecule 1 cannot be read"),
        ("  5  4  0", "  5  x  0", "molecule 1 cannot be read"),
        ("  1  5  1", "  1  9  1", "a bond of an atom that there is not"),
        ("  1  5  1", "  1  5  8", "a bond that is none of four kinds"),
        ("    1.0858", "    1.08 8", "molecule 1 cannot be read"),
        ("    1.0858", "       nan", "an atom whose place is no number"),
    ],
)
def test_other_molecules_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = write_qm9(tmp_path, 1, skipped=()) / "gdb9.sdf"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=rf"gdb9.sdf.*{said}"):
        read_sdf(tmp_path)


def test_what_stands_behind_molecules_is_passed_over(tmp_path: Path) -> None:
    file = write_qm9(tmp_path, 3, skipped=()) / "gdb9.sdf"
    more = "M  END\n> <energy>\n-40.5\n\n$$$$\n"
    file.write_text(file.read_text().replace("M  END\n$$$$\n", more) + "\n\n")
    assert np.diff(read_sdf(tmp_path).atoms).tolist() == [5, 4, 5]


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = write_qm9(tmp_path, 4, skipped=()) / "gdb9.sdf"
    content = file.read_text()
    for end in (len(content) // 2, content.index("$$$$") + 5):
        file.write_text(content[:end])
        with pytest.raises(ConfigError, match=r"gdb9.sdf"):
            read_sdf(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("u0_atom", "u0_other"), ("13.21", "much"), ("13.21", "nan")]
)
def test_other_properties_are_refused(tmp_path: Path, old: str, new: str) -> None:
    file = write_qm9(tmp_path, 4, skipped=()) / "gdb9.sdf.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=r"gdb9.sdf.csv"):
        read_sdf(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("y", float("nan"), "a property that is no number"),
        ("pos", float("inf"), "an atom whose place is no number"),
        ("z", 3, "atoms other than H, C, N, O, F"),
        ("edge_index", 4, "a bond of an atom that there is not"),
    ],
)
def test_processed_files_of_impossible_molecules_are_refused(
    tmp_path: Path, part: str, change: float, said: str
) -> None:
    path = write_processed_qm9(tmp_path, 3) / "qm9_v3.pt"
    molecules = torch.load(path)
    molecules[1][part] = molecules[1][part] + change
    torch.save(molecules, path)
    with pytest.raises(ConfigError, match=said):
        read_processed(path)


@pytest.mark.parametrize("content", [b"\xff\xfe 3", "²  CH4\n".encode()])
def test_a_list_of_the_inconsistent_may_hold_other_lines_but_has_to_be_text(
    tmp_path: Path, content: bytes
) -> None:
    (write_qm9(tmp_path, 3, skipped=()) / "uncharacterized.txt").write_bytes(content)
    if content[0] == 0xFF:
        with pytest.raises(ConfigError, match=r"uncharacterized.txt cannot be read"):
            read_sdf(tmp_path)
    else:
        assert len(read_sdf(tmp_path).values) == 3


def test_other_processed_files_are_refused(tmp_path: Path) -> None:
    for content in ([1, 2], {"x": torch.zeros(2)}, [{"z": torch.zeros(2)}]):
        torch.save(content, tmp_path / "qm9_v3.pt")
        with pytest.raises(ConfigError, match=r"qm9_v3.pt is no list of molecules"):
            read_processed(tmp_path / "qm9_v3.pt")
