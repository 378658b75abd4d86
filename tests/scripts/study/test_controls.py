"""The study's controls as the plugin that they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtrl_ntk.balancing import TaskBalancer
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.plugins import load_plugin
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.sweeps.runs import plan_runs
from mtrl_ntk.experiment.training.command import load

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "scripts" / "study" / "controls.py"
SWEEPS = sorted(ROOT.glob("configs/study/controls/*.yaml"))


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    known = dict(METHODS)
    load_plugin(PLUGIN)
    yield
    METHODS.clear()
    METHODS.update(known)


def test_shifted_weights_are_those_of_the_task_before() -> None:
    kernels = torch.rand(4, 2, 2, dtype=torch.float64)
    kernels = kernels @ kernels.mT
    weights = NTKMTL(4)(kernels)
    assert METHODS["ntkmtl_shifted"](4)(kernels).tolist() == [
        weights[each - 1].item() for each in range(4)
    ]


def test_constant_weights_weigh_the_gradients() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    constant = METHODS["constant"]
    balancer = TaskBalancer(constant(2, constant.config_class(task_weights=(3.0, 0.5))), parameter)
    balancer.backward(torch.stack([parameter[0], parameter[1]]))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([1.5, 0.25, 0])


@pytest.mark.parametrize(
    ("weights", "said"), [("1,2", "has 2 weights; it must have 10"), ("1,-2", "a negative number")]
)
def test_bad_weights_are_refused(weights: str, said: str) -> None:
    argv = [f"--task-weights={weights}", "--method=constant"]
    with pytest.raises(ConfigError, match=said):
        METHODS["constant"](10, load(argv, "train_mt10").weighting)


def test_the_sweeps_of_controls_are_possible_as_they_stand() -> None:
    sweeps = [plan_runs(read_sweep([f"--sweep={path}"], "sweep_mt10")) for path in SWEEPS]
    runs = [run for sweep in sweeps for run in sweep]
    assert {run.config.method for run in runs} == {"constant", "ntkmtl_shifted"}
    assert len({run.folder for run in runs}) == len(runs)
    (given,) = {
        run.config.weighting.task_weights for run in runs if run.config.method == "constant"
    }
    assert len(given) == len(runs[0].config.env.task_names)
