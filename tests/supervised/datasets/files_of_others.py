"""Small files in the formats of published data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIZE = (32, 48)
ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)


def write_npy_folders(folder: Path, classes: int, labels: str, *, normals: bool) -> Path:
    """Three examples to learn from and two to measure on, of kinds of numbers as published."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for part in ("image", labels, "depth", *(["normal"] if normals else [])):
            (folder / split / part).mkdir(parents=True)
        for index in range(count):
            label = rng.integers(-1, classes, SIZE).astype(np.float32)
            depth = rng.uniform(0.5, 9, (*SIZE, 1)).astype(np.float32)
            depth[label < 0] = 0
            normal = rng.normal(size=(*SIZE, 3))
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            parts: dict[str, np.ndarray] = {
                "image": rng.uniform(size=(*SIZE, 3)),
                labels: label,
                "depth": depth,
            }
            if normals:
                parts["normal"] = normal
            for part, array in parts.items():
                np.save(folder / split / part / f"{index}.npy", array)
    return folder


def write_celeba(folder: Path) -> Path:
    """Six faces, three to learn from, one to choose by and two to measure on."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.jpg" for index in range(1, 7)]
    for inner in ("Anno", "Eval", "Img/img_align_celeba"):
        (folder / inner).mkdir(parents=True)
    for index, name in enumerate(names):
        face = np.full((218, 178, 3), 40 * index, np.uint8)
        Image.fromarray(face).save(folder / "Img/img_align_celeba" / name)
    rows = [
        f"{name} " + " ".join(f"{each:2d}" for each in rng.choice([-1, 1], 40)) for name in names
    ]
    (folder / "Anno/list_attr_celeba.txt").write_text("\n".join(["6", ATTRIBUTES, *rows, ""]))
    splits = zip(names, (0, 0, 1, 2, 0, 2), strict=True)
    (folder / "Eval/list_eval_partition.txt").write_text(
        "".join(f"{name} {split}\n" for name, split in splits)
    )
    return folder


METHANE = """gdb_1
 -OEChem-03231823243D

  5  4  0     0  0  0  0  0  0999 V2000
   -0.0127    1.0858    0.0080 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.0022   -0.0060    0.0020 H   0  0  0  0  0  0  0  0  0  0  0  0
    1.0117    1.4638    0.0003 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5408    1.4475   -0.8766 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5238    1.4379    0.9064 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
  1  5  1  0  0  0  0
M  END
$$$$
"""
FORMALDEHYDE = """gdb_6
 -OEChem-03231823243D

  4  3  0     0  0  0  0  0  0999 V2000
   -0.0140    1.1968    0.0112 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.0021   -0.0045    0.0020 O   0  0  0  0  0  0  0  0  0  0  0  0
    0.9220    1.7903    0.0048 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.9637    1.7690    0.0263 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  2  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
M  END
$$$$
"""
COLUMNS = (
    "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,"
    "h298_atom,g298_atom"
)
METHANE_VALUES = (
    "157.7118,157.70997,157.70699,0.0,13.21,-0.3877,0.1171,0.5048,35.3641,0.044749,-40.47893,"
    "-40.476062,-40.475117,-40.498597,6.469,-395.999594594,-398.64329,-401.014646522,-372.471772148"
)


def write_qm9(folder: Path, count: int = 12, skipped: tuple[int, ...] = (3,)) -> Path:
    """Molecules in turn, whose properties differ by their number."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [FORMALDEHYDE if index % 2 else METHANE for index in range(count)]
    (folder / "gdb9.sdf").write_text("".join(texts))
    values = np.array([float(value) for value in METHANE_VALUES.split(",")])
    rows = [
        f"gdb_{index + 1}," + ",".join(f"{value + index:.9f}" for value in values)
        for index in range(count)
    ]
    (folder / "gdb9.sdf.csv").write_text("\n".join([COLUMNS, *rows, ""]))
    lines = [f"   {number}   CH4   C" for number in skipped]
    (folder / "uncharacterized.txt").write_text("\n".join(["Index of", "=====", *lines, ""]))
    return folder


def write_processed_qm9(folder: Path, count: int = 12) -> Path:
    """Methane in the list that PyTorch Geometric downloads, its properties as there."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = torch.tensor([6, 1, 1, 1, 1])
    lines = METHANE.splitlines()[4:9]
    positions = torch.tensor([[float(word) for word in line.split()[:3]] for line in lines])
    ends = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 0, 0, 0, 0]])
    kinds = torch.tensor([[1.0, 0, 0, 0]]).expand(8, 4)
    values = torch.tensor([float(value) for value in METHANE_VALUES.split(",")])
    hartree, kcal_mol = 27.211386246, 0.04336414
    scales = [1, 1, *[hartree] * 3, 1, *[hartree] * 5, 1, *[kcal_mol] * 4, 1, 1, 1]
    target = torch.cat([values[3:], values[:3]]) * torch.tensor(scales)
    molecules = [
        {
            "x": torch.zeros(5, 11),
            "z": numbers,
            "pos": positions,
            "edge_index": ends,
            "edge_attr": kinds,
            "y": (target + index)[None],
            "name": f"gdb_{index + 1}",
            "idx": torch.tensor([index]),
        }
        for index in range(count)
    ]
    torch.save(molecules, folder / "qm9_v3.pt")
    return folder
