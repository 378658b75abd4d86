"""Any network, any losses: gradients are the weighted ones, and the rest stays the user's."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from torchjd.aggregation import Constant
from torchjd.autojac import jac_to_grad, mtl_backward

from mtrl_ntk.balancing import Jacobian, TaskBalancer, Weighting
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import Statistics
from tests.balancing.networks import TRUNKS, SharedInput, make_shared_input

FROM_GRADIENTS = ["ntkmtl", "unit_norm", "pcgrad", "mgda", "nash_mtl", "graddrop", "moco"]
FROM_LOSSES = ["equal", "si", "rlw", "uw"]


def make(problem: SharedInput, method: str, **options: object) -> TaskBalancer:
    """A balancer of the problem's tasks."""
    num_shared = sum(parameter.numel() for parameter in problem.shared)
    weighting = METHODS[method](3, None, num_shared).double()
    return TaskBalancer(weighting, problem.network.trunk, problem.network.heads, **options)  # type: ignore[arg-type]


def gradient(parameters: list[nn.Parameter]) -> Tensor:
    """The ``.grad`` of parameters as one vector."""
    return torch.cat(
        [p.grad.flatten() if p.grad is not None else 0 * p.flatten() for p in parameters]
    )


def reference(problem: SharedInput, weighting: Weighting, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and gradient of the shared parameters, by a backward pass per task."""
    jacobian = Jacobian(problem.rows(weighting.num_minibatches))
    losses = torch.stack(problem.losses()).detach()
    weights = weighting.weigh(Statistics(jacobian, losses, weighting.kernels(jacobian), noise))
    return weights, weighting.combine(jacobian, weights)


@pytest.mark.parametrize("method", [*FROM_GRADIENTS, *FROM_LOSSES])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_gradients_are_those_of_the_weighted_losses(method: str, trunk: str) -> None:
    problem = make_shared_input(trunk)
    balancer = make(problem, method)
    twin = deepcopy(balancer.weighting)
    noise = torch.randn(twin.noise_shape, dtype=torch.float64)
    weights, shared = reference(problem, twin, noise)
    step = balancer.backward(torch.stack(problem.losses()), noise=noise)
    assert_close(step.weights, weights, rtol=1e-9, atol=0)
    assert_close(gradient(problem.shared), shared)
    own = torch.autograd.grad(torch.stack(problem.losses()).mean(), problem.own)
    assert_close(gradient(problem.own), torch.cat([g.flatten() for g in own]))


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("rows_at_once", [1, 2, 16])
def test_rows_at_once_change_nothing(trunk: str, rows_at_once: int) -> None:
    problem = make_shared_input(trunk)
    make(problem, "ntkmtl", rows_at_once=rows_at_once).backward(problem.losses())
    found = gradient(problem.shared)
    for parameter in problem.shared:
        parameter.grad = None
    make(problem, "ntkmtl").backward(problem.losses())
    assert_close(found, gradient(problem.shared))


@pytest.mark.parametrize("stacked", [True, False])
def test_minibatches_are_parts_of_the_rows(*, stacked: bool) -> None:
    problem = make_shared_input()
    ntkmtl = METHODS["ntkmtl"]
    weighting = ntkmtl(3, ntkmtl.config_class(num_minibatches=4))
    balancer = TaskBalancer(weighting, problem.network.trunk, problem.network.heads)
    losses = problem.sample_losses()
    step = balancer.backward(torch.stack(losses) if stacked else losses)
    rows = problem.rows(4)
    assert_close(step.eigenvalues, torch.linalg.eigvalsh(rows @ rows.mT)[:, -1], rtol=1e-3, atol=0)
    assert_close(gradient(problem.shared), (step.weights[:, None, None] * rows).mean((0, 1)))
    minibatches = torch.stack(problem.sample_losses()).unflatten(1, (4, 2)).mean(2)
    assert_close(balancer.backward(minibatches).weights, step.weights)


def test_heads_are_weighed_on_demand() -> None:
    problem = make_shared_input()
    step = make(problem, "ntkmtl", weigh_own=True).backward(problem.losses())
    loss = (step.weights * torch.stack(problem.losses())).mean()
    expected = torch.autograd.grad(loss, problem.own)
    assert_close(gradient(problem.own), torch.cat([g.flatten() for g in expected]))


@pytest.mark.parametrize(
    ("method", "weigh_own", "passes"), [("equal", False, 1), ("si", True, 1), ("si", False, 2)]
)
def test_one_pass_does_where_all_is_weighed_alike(
    method: str, *, weigh_own: bool, passes: int
) -> None:
    problem = make_shared_input()
    seen: list[Tensor] = []
    losses = torch.stack(problem.losses())
    losses.register_hook(seen.append)
    step = make(problem, method, weigh_own=weigh_own).backward(losses)
    assert len(seen) == passes
    of_own = step.weights if weigh_own else torch.ones_like(step.weights)
    pairs = [(problem.shared, step.weights), (problem.own, of_own)]
    for parameters, weights in pairs:
        mean = (weights * torch.stack(problem.losses())).mean()
        expected = torch.autograd.grad(mean, parameters)
        assert_close(gradient(parameters), torch.cat([g.flatten() for g in expected]))


def test_gradients_accumulate() -> None:
    problem = make_shared_input()
    balancer = make(problem, "ntkmtl")
    balancer.backward(problem.losses())
    once = gradient([*problem.shared, *problem.own])
    for _ in range(2):
        balancer.backward(problem.losses(), factor=0.5)
    assert_close(gradient([*problem.shared, *problem.own]), 2 * once)


@pytest.mark.parametrize("method", ["ntkmtl", "si"])
def test_an_auxiliary_loss_adds_to_the_gradients(method: str) -> None:
    problem = make_shared_input()
    balancer = make(problem, method)
    balancer.backward(problem.losses())
    balanced = gradient(problem.shared)
    for parameter in problem.shared:
        parameter.grad = None
    weight = problem.shared[0]
    weight.square().sum().backward()
    auxiliary = gradient(problem.shared)
    balancer.backward(problem.losses())
    assert_close(gradient(problem.shared), balanced + auxiliary)


@pytest.mark.parametrize("method", ["ntkmtl", "si"])
def test_frozen_and_unused_parameters_have_no_gradients(method: str) -> None:
    problem = make_shared_input("convolutions")
    problem.network.trunk.register_parameter("unused", nn.Parameter(torch.ones(3)))
    frozen = problem.network.trunk[1].weight
    frozen.requires_grad_(False)
    make(problem, method).backward(problem.losses())
    untouched = {id(p) for p in (frozen, problem.network.trunk.unused)}
    assert all((p.grad is None) == (id(p) in untouched) for p in problem.shared)


def test_what_is_frozen_is_no_part_of_the_kernels() -> None:
    problem = make_shared_input()
    problem.network.trunk[0].requires_grad_(False)
    step = make(problem, "ntkmtl").backward(problem.losses())
    problem.network.trunk[0].requires_grad_(True)
    entries = sum(p.numel() for p in problem.network.trunk[2].parameters())
    assert_close(step.eigenvalues, problem.rows()[:, 0, -entries:].square().sum(1))


def test_hooks_see_the_combined_gradient_once() -> None:
    problem = make_shared_input()
    seen: list[Tensor] = []

    def double(found: Tensor) -> Tensor:
        seen.append(found)
        return 2 * found

    problem.shared[0].register_hook(double)
    problem.shared[0].register_post_accumulate_grad_hook(lambda p: seen.append(p.grad))
    make(problem, "ntkmtl").backward(problem.losses())
    before, after = seen
    assert_close(after, 2 * before)
    assert problem.shared[0].grad is not None
    assert_close(problem.shared[0].grad, after)


@pytest.mark.parametrize("method", ["ntkmtl", "pcgrad", "equal", "si"])
def test_a_broken_task_touches_no_other(method: str) -> None:
    problem = make_shared_input()
    problem.vectors[3] = torch.nan
    for parameter in (*problem.shared, *problem.own):
        parameter.grad = None
    step = make(problem, method).backward(torch.stack(problem.losses()))
    assert step.skipped.tolist() == [0, 0, 1]
    losses = (step.weights[:2] * torch.stack(problem.losses()[:2])).sum() / 3
    expected = torch.autograd.grad(losses, problem.shared)
    assert_close(gradient(problem.shared), torch.cat([g.flatten() for g in expected]))
    assert gradient(problem.own).isfinite().all()


@pytest.mark.parametrize("method", ["ntkmtl", "si"])
def test_a_step_without_any_usable_task_adds_nothing(method: str) -> None:
    problem = make_shared_input()
    problem.inputs.fill_(torch.nan)
    step = make(problem, method).backward(problem.losses())
    assert step.skipped.tolist() == [1, 1, 1]
    assert not gradient([*problem.shared, *problem.own]).any()


@pytest.mark.parametrize(
    ("shape", "named"),
    [((2, 5, 1), "shape (2, 5, 1)"), ((5, 2), "shape (5, 2)"), ((), "shape ()"), ((3,), "(3,)")],
)
def test_losses_of_other_tasks_are_refused(shape: tuple[int, ...], named: str) -> None:
    weight = nn.Parameter(torch.ones(()))
    balancer = TaskBalancer(METHODS["equal"](2), [weight])
    with pytest.raises(ValueError, match=r"one per task, \[2\]") as raised:
        balancer.backward(weight * torch.ones(shape))
    assert named in str(raised.value)


def test_mistakes_are_named() -> None:
    problem = make_shared_input()
    trunk, heads = problem.network.trunk, problem.network.heads
    losses = torch.stack(problem.losses())
    with pytest.raises(ValueError, match="depend on 8 trainable tensors that are named neither"):
        TaskBalancer(METHODS["equal"](3), trunk).backward(losses)
    with pytest.raises(ValueError, match="detached"):
        make(problem, "equal").backward(losses.detach())
    with pytest.raises(ValueError, match="none of what was named as shared"):
        TaskBalancer(METHODS["equal"](3), [], heads).backward(losses)
    with pytest.raises(ValueError, match="computed from others"):
        TaskBalancer(METHODS["equal"](3), [2 * problem.shared[0]])
    ntkmtl = METHODS["ntkmtl"]
    balancer = TaskBalancer(ntkmtl(3, ntkmtl.config_class(num_minibatches=3)), trunk, heads)
    with pytest.raises(ValueError, match="4 rows per task cannot be split into 3"):
        balancer.backward(losses[:, None].expand(3, 4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preferences": [1.0, 2.0]}, r"preferences are \[1.0, 2.0\]; they must be 3 numbers"),
        ({"preferences": [1.0, 0.0, 1.0]}, "a preference is 0.0; it must be above 0"),
        ({"preferences": torch.tensor([1, torch.nan, 1])}, "a preference is nan; it must be a fin"),
        ({"preferences": "abc"}, "a preference is 'a'; it must be a finite number"),
        ({"preferences": 3}, "preferences is a int; it must be 3 numbers above 0"),
        ({"rows_at_once": 0}, "rows_at_once is 0; it must be at least 1"),
        ({"rows_at_once": torch.nan}, "rows_at_once is nan; it must be a whole number"),
        ({"rows_at_once": True}, "rows_at_once is True; it must be a whole number"),
        ({"representation": "trunk"}, "representation is 'trunk'; it must be a module"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(make_shared_input(), "equal", **options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"factor": 0}, "factor is 0; it must be above 0"),
        ({"factor": torch.nan}, "factor is nan; it must be a finite number"),
        ({"factor": "1"}, "factor is '1'; it must be a finite number"),
        ({"scaler": 1024.0}, "scaler is a float; it must be a torch.amp.GradScaler"),
        ({"recording": nn.Linear(2, 2)}, "recording is a Linear; it must be what `with record"),
        ({"representation": nn.Linear(2, 2)}, "representation is a Linear; it must be a tensor"),
        ({"noise": torch.ones(3)}, r"noise is \[3\]; PCGrad takes \[3, 3\]"),
        ({"noise": 3}, "noise is a int; it must be a tensor"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: dict[str, Any], said: str) -> None:
    problem = make_shared_input()
    with pytest.raises(ValueError, match=said):
        make(problem, "pcgrad").backward(problem.losses(), **arguments)
    assert not gradient([*problem.shared, *problem.own]).any()


@pytest.mark.parametrize("method", ["ntkmtl", METHODS["ntkmtl"], None])
def test_what_is_no_method_is_refused(method: object) -> None:
    with pytest.raises(ValueError, match=r"made for the tasks: METHODS\['ntkmtl'\]\(3\)"):
        TaskBalancer(method, nn.Linear(2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", ["trunk", None, ["trunk"], nn.Linear(2, 2).named_parameters()])
def test_what_is_no_parameter_is_refused(shared: object) -> None:
    with pytest.raises(ValueError, match="it must be a module, a parameter, or several of them"):
        TaskBalancer(METHODS["equal"](3), shared)  # type: ignore[arg-type]


def test_losses_that_turn_negative_leave_nothing_behind() -> None:
    problem = make_shared_input()
    balancer = make(problem, "famo")
    before = deepcopy(balancer.state_dict())
    with pytest.raises(ValueError, match="FAMO needs losses of at least zero"):
        balancer.backward([-loss for loss in problem.losses()])
    assert not gradient([*problem.shared, *problem.own]).any()
    balancer.backward(problem.losses())
    with pytest.raises(ValueError, match="FAMO needs losses of at least zero"):
        balancer.observe(-torch.stack(problem.losses()))
    assert all(torch.equal(each, before[name]) for name, each in balancer.state_dict().items())


def test_heads_may_lie_within_what_is_shared() -> None:
    problem = make_shared_input()
    balancer = TaskBalancer(METHODS["equal"](3), problem.network, problem.network.heads)
    shared, own = balancer.parameters()
    assert [id(p) for p in shared] == [id(p) for p in problem.shared]
    assert [id(p) for p in own] == [id(p) for p in problem.own]


def test_preferences_multiply_weights() -> None:
    problem = make_shared_input()
    plain = make(problem, "ntkmtl").backward(problem.losses()).weights
    preferred = make(problem, "ntkmtl", preferences=[1, 2, 3]).backward(problem.losses()).weights
    assert_close(preferred, plain * torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64))


def test_famo_is_told_what_its_step_did() -> None:
    problem = make_shared_input()
    balancer = make(problem, "famo")
    optimizer = torch.optim.SGD(problem.network.parameters(), lr=1e-3)
    start = deepcopy(balancer.state_dict())
    balancer.backward(problem.losses())
    with pytest.raises(ValueError, match=r"call observe\(losses\)"):
        balancer.backward(problem.losses())
    optimizer.step()
    balancer.observe(problem.losses())
    learnt = deepcopy(balancer.state_dict())
    assert not torch.equal(learnt["logits"], start["logits"])
    balancer.reset()
    assert torch.equal(balancer.state_dict()["logits"], start["logits"])
    balancer.load_state_dict(learnt)
    assert torch.equal(balancer.state_dict()["logits"], learnt["logits"])


def test_several_optimisers_and_a_closure() -> None:
    problem = make_shared_input()
    balancer = make(problem, "ntkmtl")
    heads = torch.optim.Adam(problem.own, lr=1e-2)
    trunk = torch.optim.LBFGS(problem.shared, max_iter=3)

    def closure() -> Tensor:
        trunk.zero_grad()
        return balancer.backward(problem.losses()).losses.sum()

    first = torch.stack(problem.losses()).detach()
    for _ in range(3):
        heads.zero_grad()
        trunk.step(closure)
        heads.step()
    assert not torch.equal(torch.stack(problem.losses()), first)


def test_networks_may_change_their_precision() -> None:
    problem = make_shared_input(dtype=torch.float32)
    balancer = make(problem, "ntkmtl")
    balancer.backward(problem.losses())
    problem.network.double().zero_grad()
    double = make_shared_input()
    problem.inputs, problem.numbers, problem.vectors = double.inputs, double.numbers, double.vectors
    step = balancer.backward(problem.losses())
    assert step.eigenvalues.dtype == torch.float64
    assert_close(step.eigenvalues, problem.rows()[:, 0].square().sum(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_never_below_float32(dtype: torch.dtype) -> None:
    problem = make_shared_input(dtype=dtype)
    step = make(problem, "ntkmtl").backward(problem.losses())
    assert step.eigenvalues.dtype == step.losses.dtype == torch.float32
    assert all(p.grad is not None and p.grad.dtype == dtype for p in problem.shared)


class Scaler(torch.amp.GradScaler):
    """A scaler on the CPU, of a scale that can be read off."""

    def __init__(self) -> None:
        super().__init__("cpu", init_scale=2.0**10)


@pytest.mark.parametrize("method", ["ntkmtl", "si"])
def test_a_scaler_gets_gradients_in_its_scale(method: str) -> None:
    problem, scaler = make_shared_input(dtype=torch.float32), Scaler()
    plain = make(problem, method).backward(problem.losses())
    expected = gradient([*problem.shared, *problem.own])
    problem.network.zero_grad()
    scaled = make(problem, method).backward(problem.losses(), scaler=scaler)
    assert_close(gradient([*problem.shared, *problem.own]), 2.0**10 * expected)
    assert_close(scaled.weights, plain.weights)
    assert_close(scaled.gradient_norm, plain.gradient_norm)


def test_a_scaler_hears_of_an_overflow() -> None:
    problem = make_shared_input(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimizer = torch.optim.Adam(problem.network.parameters())
    before = deepcopy(problem.network.state_dict())
    make(problem, "ntkmtl").backward(problem.losses(), scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2.0**127
    assert all(torch.equal(p, before[name]) for name, p in problem.network.state_dict().items())


def test_cosines_are_computed_on_demand() -> None:
    problem = make_shared_input()
    for method in ("si", "pcgrad"):
        assert make(problem, method).backward(problem.losses()).minimum_cosine is None
        found = make(problem, method).backward(problem.losses(), diagnose=True).minimum_cosine
        unit = nn.functional.normalize(problem.rows()[:, 0], dim=1)
        assert found is not None
        assert_close(found, (unit @ unit.T).min())


def test_checkpoints_go_along() -> None:
    problem = make_shared_input()
    first, activation, last = problem.network.trunk
    hidden = checkpoint(activation, first(problem.inputs), use_reentrant=False)
    losses = [loss.mean() for loss in problem.sample_losses(last(hidden))]
    step = make(problem, "ntkmtl").backward(losses)
    assert_close(step.eigenvalues, problem.rows()[:, 0].square().sum(1))


@pytest.mark.parametrize("method", ["moco", "db_mtl", "graddrop", "si", "famo", "go4align"])
def test_methods_are_made_with_tasks_alone_and_say_what_losses_they_need(method: str) -> None:
    network = nn.Linear(3, 1).double()
    balancer = TaskBalancer(METHODS[method](2), network)
    losses = network(torch.randn(2, 5, 3).double()).squeeze(2).square().mean(1)
    assert balancer.backward(losses).weights.isfinite().all()
    if METHODS[method].positive_losses:
        balancer.reset()
        with pytest.raises(ValueError, match="needs losses of at least zero"):
            balancer.backward(-network(torch.randn(2, 5, 3).double()).square().mean((1, 2)))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("trunk", TRUNKS)
def test_gradients_are_those_of_torchjd_with_the_same_weights(trunk: str) -> None:
    problem = make_shared_input(trunk)
    step = make(problem, "imtl_g").backward(problem.losses())
    found = gradient(problem.shared)
    problem.network.zero_grad()
    features = problem.network.trunk(problem.inputs)
    losses = [loss.mean() for loss in problem.sample_losses(features)]
    mtl_backward(losses, features=features, shared_params=problem.shared)
    jac_to_grad(problem.shared, Constant(step.weights / 3))
    assert_close(found, gradient(problem.shared))


@pytest.mark.parametrize("rows_at_once", [None, 1])
def test_compiled_networks_are_balanced_alike(rows_at_once: int | None) -> None:
    problem = make_shared_input()
    step = make(problem, "ntkmtl").backward(problem.losses())
    compiled: Any = torch.compile(problem.network.trunk, backend="aot_eager")
    losses = [loss.mean() for loss in problem.sample_losses(compiled(problem.inputs))]
    found = make(problem, "ntkmtl", rows_at_once=rows_at_once).backward(losses)
    assert_close(found.weights, step.weights)
