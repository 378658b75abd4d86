"""Message passing against loops over pairs of atoms."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from mtrl_ntk.supervised.networks.message_passing import (
    MessagePassing,
    MessagePassingConfig,
    Messages,
    SetToSet,
)
from mtrl_ntk.supervised.tasks import Regression, Task

ROWS, ATOMS, FEATURES = 3, 5, 4
TASKS: list[Task] = [Regression("mu"), Regression("alpha")]


def molecules() -> dict[str, Tensor]:
    mask = torch.arange(ATOMS) < torch.tensor([5, 3, 1])[:, None]
    pairs = torch.rand(ROWS, ATOMS, ATOMS, 5)
    atoms = torch.rand(ROWS, ATOMS, 11)
    both = (mask[:, :, None] & mask[:, None])[..., None]
    return {"atoms": atoms * mask[..., None], "pairs": (pairs + pairs.mT) * both, "mask": mask}


def network() -> MessagePassing:
    return MessagePassing(MessagePassingConfig(FEATURES, 6), (11, 5), TASKS).double()


def doubled(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: part if name == "mask" else part.double() for name, part in parts.items()}


def test_messages_are_means_of_neighbours_times_matrices_of_pairs() -> None:
    layer = Messages(FEATURES, 5, 6).double()
    parts = doubled(molecules())
    atoms = torch.randn(ROWS, ATOMS, FEATURES, dtype=torch.float64)
    found = layer(atoms, layer.pair_features(parts["pairs"], parts["mask"]))
    for row, receiver in product(range(ROWS), range(ATOMS)):
        if not parts["mask"][row, receiver]:
            continue
        told = [
            atoms[row, sender]
            @ layer.matrices(torch.relu(layer.hidden(parts["pairs"][row, receiver, sender]))).view(
                FEATURES, FEATURES
            )
            for sender in range(ATOMS)
            if parts["mask"][row, sender] and sender != receiver
        ]
        mean = torch.stack(told).mean(0) if told else torch.zeros(FEATURES)
        torch.testing.assert_close(found[row, receiver], layer.own(atoms[row, receiver]) + mean)


def test_the_readout_is_that_of_the_published_loop() -> None:
    readout = SetToSet(FEATURES, 3).double()
    elements = torch.randn(1, ATOMS, FEATURES, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False]])
    read, state = torch.zeros(1, 2 * FEATURES).double(), None
    for _ in range(3):
        state = readout.memory(read, state)
        shares = (elements[0, :3] @ state[0][0]).softmax(0)
        read = torch.cat([state[0][0], shares @ elements[0, :3]])[None]
    torch.testing.assert_close(readout(elements, mask), read)


def test_filling_up_and_the_order_of_atoms_change_nothing() -> None:
    model, parts = network(), doubled(molecules())
    found = model(parts)["mu"]
    alone = {name: part[1:2, :3] for name, part in parts.items()} | {
        "pairs": parts["pairs"][1:2, :3, :3]
    }
    torch.testing.assert_close(model(alone)["mu"], found[1:2])
    order = torch.randperm(ATOMS)
    mixed = {name: part[:, order] for name, part in parts.items()}
    mixed["pairs"] = mixed["pairs"][:, :, order]
    torch.testing.assert_close(model(mixed)["mu"], found)


def test_the_published_network_has_as_many_parameters() -> None:
    model = MessagePassing(MessagePassingConfig(), (11, 5), TASKS)
    dim = 64
    embedding, edges = 11 * dim + dim, 5 * 128 + 128 + 128 * dim**2 + dim**2
    root, gru = dim**2 + dim, 2 * (3 * dim**2 + 3 * dim)
    lstm, last = 4 * dim * (2 * dim + dim) + 8 * dim, 2 * dim**2 + dim
    trunk = sum(parameter.numel() for parameter in model.trunk.parameters())
    assert trunk == embedding + edges + root + gru + lstm + last
