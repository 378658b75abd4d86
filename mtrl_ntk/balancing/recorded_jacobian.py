"""Jacobians of recorded networks: one backward pass for known layers, autograd for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtrl_ntk.balancing.distributed import average, num_processes
from mtrl_ntk.balancing.factors import Factor, KernelFactor
from mtrl_ntk.balancing.ghost import Ghost
from mtrl_ntk.balancing.jacobian import Jacobian, Request, Workspace, stays_unwritten
from mtrl_ntk.balancing.loss_graph import Columns, LossGraph
from mtrl_ntk.balancing.recording import Recording, by_task
from mtrl_ntk.balancing.representation import Representation

WriteRows = Callable[[LossGraph, Columns, Tensor], None]
"""Fills rows with gradients by autograd."""


class RecordedLayers:
    """The recorded layers that losses passed through, with the gradients in their outputs.

    Args:
        recording: The recording.
        graph: Of the losses.
        columns: The parameters whose gradients are wanted.
    """

    def __init__(self, recording: Recording, graph: LossGraph, columns: Columns) -> None:
        num_tasks = len(graph.values)
        layers = recording.layers(columns.parameters, num_tasks, graph.num_rows)
        ones = torch.ones(graph.values.shape)
        gradients = graph.combine(ones, [layer.edge for layer in layers])
        self._pairs = [
            (layer.factor, layer.factor.own(by_task(gradient, num_tasks, graph.num_rows)))
            for layer, gradient in zip(layers, gradients, strict=True)
            if gradient is not None
        ]
        self._graph, self._columns = graph, columns
        self._known = {id(p) for factor, _ in self._pairs for p in factor.parameters}

    def jacobian(
        self,
        request: Request,
        workspace: Workspace,
        write_rows: WriteRows,
        representation: Representation | None = None,
    ) -> tuple[Jacobian, Columns]:
        """Makes the Jacobian.

        Args:
            request: What will be asked.
            workspace: Memory for the rows.
            write_rows: What does so where no recorded call gives gradients.
            representation: Gradients in a representation, if they were asked for.

        Returns:
            The Jacobian, and the parameters in the order of its columns: those of layers whose
            gradients stay unwritten are the last.
        """
        ghosts, shown = _split(self._pairs, request)
        last = [parameter for ghost in ghosts for parameter in ghost.factor.parameters]
        written = self._columns.without(last)
        like = self._graph.values.new_empty(0, dtype=self._columns.dtype)
        rows = workspace.rows(like, *self._graph.values.shape, written.num_entries)
        used = self._write(shown, written, rows, write_rows)
        order = Columns([*written.parameters, *last])
        order.used = [id(parameter) in used for parameter in order.parameters]
        columns: list[int | Ghost] = [written.num_entries, *ghosts]
        return Jacobian(average(rows), columns, representation=representation), order

    def _write(
        self,
        pairs: Sequence[tuple[Factor, Tensor]],
        written: Columns,
        rows: Tensor,
        write_rows: WriteRows,
    ) -> set[int]:
        """Writes the rows; returns the identities of all parameters that losses depend on."""
        blocks = written.blocks(rows.flatten(0, 1))
        for factor, gradient in pairs:
            factor.write(gradient, [blocks[id(parameter)] for parameter in factor.parameters])
        others = Columns([p for p in written.parameters if id(p) not in self._known])
        if others.parameters:
            found = rows.new_empty(*rows.shape[:2], others.num_entries)
            write_rows(self._graph, others, found)
            for identity, block in others.blocks(found.flatten(0, 1)).items():
                blocks[identity].copy_(block)
        reached = zip(others.parameters, others.used, strict=True)
        return self._known | {id(parameter) for parameter, used in reached if used}


def _split(
    pairs: Sequence[tuple[Factor, Tensor]], request: Request
) -> tuple[list[Ghost], list[tuple[Factor, Tensor]]]:
    """The layers whose gradients stay unwritten, and the others."""
    ghosts, others = [], []
    for factor, gradient in pairs:
        # Kernels of means over processes are no means of kernels.
        if (
            num_processes() == 1
            and isinstance(factor, KernelFactor)
            and stays_unwritten(factor, request)
        ):
            ghosts.append(Ghost(factor, gradient))
        else:
            others.append((factor, gradient))
    return ghosts, others
