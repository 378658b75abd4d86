"""Lower precision: in the layers' products only, and close to the exact results."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from mtrl_ntk.balancing import Request, Tape, factored_jacobian
from mtrl_ntk.balancing.jacobian import Path
from mtrl_ntk.errors import UserError
from mtrl_ntk.rl import precision as precisions
from mtrl_ntk.rl.networks import NETWORK_KINDS
from mtrl_ntk.rl.precision import AskedPrecision, Precision, resolve_precision, set_products
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.rl.agents import OPTIONS, TASKS, make_weighting

ROWS = 32
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")
NETWORKS: tuple[str, ...] = tuple(NETWORK_KINDS)


def make_agent(
    precision: AskedPrecision,
    network: str = "shared",
    method: str = "",
    **settings: Any,  # noqa: ANN401
) -> MultiTaskSAC:
    method = method or ("equal" if network == "independent" else "ntkmtl")
    return MultiTaskSAC(
        TASKS,
        7,
        2,
        config=SacConfig(
            batch_size=ROWS,
            width=64,
            depth=2,
            network=network,
            critic_layer_norm=True,
            precision=precision,
            **settings,
        ),
        make_weighting=partial(make_weighting, method),
        seed=0,
        num_updates=8,
    )


def make_batch() -> Batch:
    def draw(*features: int) -> torch.Tensor:
        return torch.randn(TASKS, ROWS, *features)

    return Batch(draw(7), draw(2).tanh(), draw(), draw(7), torch.zeros(TASKS, ROWS))


def gradient(agent: MultiTaskSAC, part: str) -> torch.Tensor:
    network = agent.critic if part == "critic" else agent.actor
    gradients = [parameter.grad for parameter in network.parameters()]
    return torch.cat([g.flatten() for g in gradients if g is not None])


@pytest.mark.parametrize("settings", [{}, *OPTIONS.values()], ids=["", *OPTIONS])
@pytest.mark.parametrize("network", NETWORKS)
def test_bf16_is_close_to_float32(network: str, settings: dict[str, Any]) -> None:
    exact, fast = (make_agent(precision, network, **settings) for precision in PRECISIONS)
    batch, noise = make_batch(), exact.draw_noise()
    expected, found = exact.update(batch, noise), fast.update(batch, noise)
    for part in ("critic", "actor"):
        assert cosine_similarity(gradient(fast, part), gradient(exact, part), dim=0) > 0.99
        # A kernel is quadratic in gradients, which pass through more roundings than a loss.
        for name, tolerance in ((f"losses/{part}", 0.05), (f"ntk/{part}", 0.15)):
            error = (found[name] - expected[name]).norm()
            assert error <= tolerance * expected[name].norm(), name
    assert not torch.equal(found["losses/critic"], expected["losses/critic"])


def test_kernels_of_features_in_bf16_are_float32() -> None:
    metrics = make_agent("bf16", "multi_head", "ntkmtl_sr").update(make_batch())
    assert {tensor.dtype for tensor in metrics.values()} <= {torch.float32, torch.bool}


@pytest.mark.parametrize("network", NETWORKS)
def test_bf16_keeps_all_that_stays_in_float32(network: str) -> None:
    agent = make_agent("bf16", network)
    metrics = agent.update(make_batch())
    kept = {**agent.state_dict(), **agent.optimizer_state(), **metrics}
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


@pytest.mark.parametrize("num_minibatches", [1, 4])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_both_paths_agree_in_bf16(num_minibatches: int, *, layer_norm: bool) -> None:
    layers = [torch.nn.Linear(5, 64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 1)]
    inputs = torch.randn(TASKS, ROWS, 5)

    def jacobian(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tape, features = Tape(), inputs
        with torch.autocast("cpu", torch.bfloat16):
            for layer in layers if layer_norm else (layers[0], layers[2]):
                features = tape(layer, features)
        losses = features.float().squeeze(-1).square()
        made = factored_jacobian(tape, losses, Request(num_minibatches), path=path)
        return made.kernels(), made.combine(torch.ones(TASKS)), made.rows()

    for direct, ghost in zip(jacobian("direct"), jacobian("ghost"), strict=True):
        assert direct.dtype == ghost.dtype == torch.float32
        assert (direct - ghost).norm() <= 0.01 * direct.norm()


def test_acting_is_exact() -> None:
    observations = torch.randn(TASKS, 4, 7)
    actions = [make_agent(p).act(observations, deterministic=True) for p in ("float32", "bf16")]
    assert torch.equal(*actions)


def test_tf32_is_refused_where_it_does_not_exist() -> None:
    with pytest.raises(UserError, match="tf32 needs CUDA"):
        set_products("tf32", torch.device("cpu"))


@pytest.mark.parametrize(("multiplies", "meant"), [(True, "bf16"), (False, "float32")])
def test_auto_is_bf16_where_the_cpu_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, meant: Precision, *, multiplies: bool
) -> None:
    monkeypatch.setattr(precisions, "cpu_multiplies_in_bf16", lambda: multiplies)
    auto, asked, batch = make_agent("auto"), make_agent(meant), make_batch()
    assert auto.precision == asked.precision == meant
    for agent in (auto, asked):
        agent.update(batch)
    assert all(map(torch.equal, auto.state_dict().values(), asked.state_dict().values()))
    assert resolve_precision("auto", torch.device("cuda")) == "float32"
    for name in ("float32", "bf16"):
        assert resolve_precision(name, torch.device("cpu")) == name
