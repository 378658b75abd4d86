"""Constant outputs are those that fit a task best, pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.supervised.tasks import Classification, Depth, Normals
from scripts.study.blind import constant, run


def test_classes_get_their_shares() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])
    shares = constant(Classification("digit", 3), targets).softmax(1)
    assert_close(shares, torch.tensor([[0.6, 0.3, 0.1]]), atol=0.05, rtol=0)


def test_depth_is_the_median_of_each_pixel_without_what_is_unknown() -> None:
    near, far = torch.full((9, 1, 1, 1), 0.5), torch.full((9, 1, 1, 1), 2.0)
    near[0], far[0], far[:4, ..., :1] = 3.0, 0.25, 0.0
    found = constant(Depth("depth"), torch.cat([near, far], 3))
    assert_close(found, torch.tensor([[[[0.5, 2.0]]]]), atol=0.02, rtol=0)


def test_normals_point_where_most_do() -> None:
    targets = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(10, 1, 2, 2)
    found = constant(Normals("normals"), targets)
    assert found.shape == (1, 3, 2, 2)
    assert (found[:, 2] > 10 * found[:, :2].abs().amax(1)).all()


def test_the_program_prints_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--dataset", "digits", "--train-pairs", "64", "--test-pairs", "64"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["left", "right", "sum", "reconstruction"]
    accuracy = float(lines[0].split()[-2])
    assert 0 < accuracy < 30
