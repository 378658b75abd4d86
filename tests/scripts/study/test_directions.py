"""Methods' steps are told from inner products as they are from the gradients themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.balancing.affinity import extended_kernel
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighing import weigh
from mtrl_ntk.experiment.kernels.diagnosis import PARTS, diagnose, save_diagnosis
from mtrl_ntk.experiment.types import Counters
from scripts.study.directions import METHODS_THAT_CAN, main, rows_of, step_of, variants

TASKS = ("reach", "push", "peg")
N = 4


def gradients(seed: int = 0) -> Tensor:
    """Rows ``[tasks, n, parameters]`` of tasks that differ by powers of ten in scale and noise."""
    generator = torch.Generator().manual_seed(seed)
    signal, noise = (torch.randn(len(TASKS), n, 50, generator=generator) for n in (1, N))
    scale, share_of_noise = torch.tensor([[1.0, 1e-2, 1e-4], [0.1, 1.0, 10.0]])[..., None, None]
    rows: Tensor = scale * (signal + share_of_noise * (noise - noise.mean(1, keepdim=True)))
    return rows


def kernel_of(rows: Tensor) -> np.ndarray:
    kernel = extended_kernel(rows).view(len(TASKS), N, len(TASKS), N)
    return kernel.float().numpy()


def test_rows_have_the_inner_products_that_they_were_made_of() -> None:
    rows = gradients()
    again = torch.from_numpy(kernel_of(rows_of(kernel_of(rows))))
    torch.testing.assert_close(again, torch.from_numpy(kernel_of(rows)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", sorted({*METHODS_THAT_CAN} - {"pcgrad", "sdmgrad"}))
def test_cosines_are_those_of_steps_on_the_gradients_themselves(name: str) -> None:
    rows, losses = gradients(), torch.ones(len(TASKS))
    known = rows_of(kernel_of(rows))
    equal = METHODS["equal"](len(TASKS))
    for _, weighting in variants(name, len(TASKS), N):
        merged = rows.unflatten(1, (weighting.num_minibatches, -1)).mean(2)
        one, two = (weigh(each, Jacobian(merged.clone()), losses) for each in (weighting, equal))
        expected = torch.cosine_similarity(one.gradient, two.gradient, dim=0)
        found = torch.cosine_similarity(step_of(weighting, known), step_of(equal, known), dim=0)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def write_run(folder: Path, minibatches: int = N) -> str:
    folder.mkdir()
    for updates in range(10):
        jacobian = Jacobian(gradients(updates)[:, :minibatches].clone())
        for part in PARTS:
            save_diagnosis(
                folder, part, diagnose(jacobian, TASKS, Counters(updates, 0, updates, 0.0))
            )
    return str(folder)


def test_one_mini_batch_takes_ntkmtl_where_unit_norm_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    main([*runs, "--methods", "ntkmtl", "equal", "--csv", str(tmp_path / "each.csv")])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["critic", "ntkmtl, n = 1", "unit_norm", *["+1.00 [+1.00, +1.00]"] * 5]
    assert [line[1] for line in lines[2:5]] == ["ntkmtl, n = 2", "ntkmtl, n = 4", "equal"]
    # Of more mini-batches it goes elsewhere, and equal weights follow the largest task.
    assert all("+1.00 [+1.00, +1.00]" not in line for line in lines[3:5])
    each = (tmp_path / "each.csv").read_text(encoding="utf-8").splitlines()
    assert each[0] == "run,part,method,against," + ",".join(f"fifth_{i}" for i in range(1, 6))
    assert each[1] == 'a,critic,"ntkmtl, n = 1",unit_norm,1.0000,1.0000,1.0000,1.0000,1.0000'
    # Two runs and parts; four methods against unit norm, and three against equal weights.
    assert len(each) == 1 + 2 * 2 * (4 + 3)


def test_what_cannot_be_told_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", minibatches=2)]
    for arguments, message in (
        ([str(tmp_path / "empty")], "--kernel-every"),
        (runs, "differ"),
        ([runs[0], "--methods", "graddrop"], "graddrop"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err
