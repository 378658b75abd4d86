"""Makes one function of the steps of a program, which PyTorch runs without Python in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import Value
from torch._ops import OpOverload

from mtrl_ntk.rl.host_program import Step

_COPY = torch.ops.aten.copy_.default


def as_function(steps: Sequence[Step]) -> Callable[[], None]:
    """One function that runs steps in their order, as they stand."""
    graph = _Graph()
    for step in steps:
        results = graph.call(step.func, step.args, step.kwargs)
        if step.targets:
            graph.copy(results, step.targets)
    return graph.function()


class _Graph:
    """A graph for PyTorch's interpreter, operation by operation.

    Tensors and random streams are its inputs: constants of graphs are taken to stay as they are.
    """

    def __init__(self) -> None:
        self._graph = torch._C.Graph()
        self._inputs: list[Any] = []
        self._values: dict[int, Value] = {}

    def call(
        self, func: OpOverload[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[Value]:
        """Adds an operation; returns what stands for its results."""
        schema = func._schema
        given = [
            args[index] if index < len(args) else kwargs.get(argument.name, argument.default_value)
            for index, argument in enumerate(schema.arguments)
        ]
        values = [
            self._value(each, argument.type)
            for each, argument in zip(given, schema.arguments, strict=True)
        ]
        return self._add(schema.name, values, [each.type for each in schema.returns])

    def copy(self, results: list[Value], targets: Sequence[Tensor | None]) -> None:
        """Adds that an operation's results are copied, but for some."""
        if results[0].type().kind() == "ListType":
            types = [results[0].type().getElementType()] * len(targets)
            results = self._add("prim::ListUnpack", results, types)
        for target, result in zip(targets, results, strict=True):
            if target is not None:
                self.call(_COPY, (target, result), {})

    def _add(self, name: str, values: list[Value], types: Sequence[Any]) -> list[Value]:
        # Which operation of a name is meant follows from the types.
        node = self._graph.create(name, values, len(types))
        self._graph.appendNode(node)
        return [result.setType(type_) for result, type_ in zip(node.outputs(), types, strict=True)]

    def _value(self, given: Any, type_: Any) -> Value:  # noqa: ANN401
        """What stands for an argument, given its type in the schema."""
        if isinstance(given, Value):
            return given
        if given is not None and type_.kind() == "OptionalType":
            return self._value(given, type_.getElementType())
        if isinstance(given, Tensor | torch.Generator):
            return self._input(given, type_)
        if isinstance(given, list | tuple):
            values = [self._value(each, type_.getElementType()) for each in given]
            return self._add("prim::ListConstruct", values, [type_])[0]
        return self._constant(float(given) if type_.kind() == "FloatType" else given)

    def _constant(self, given: object) -> Value:
        value: Value = self._graph.insertConstant(given)  # type: ignore[attr-defined]
        return value

    def _input(self, given: Tensor | torch.Generator, type_: Any) -> Value:  # noqa: ANN401
        if id(given) not in self._values:
            self._inputs.append(given)
            self._values[id(given)] = self._graph.addInput(f"input_{len(self._inputs)}")
            self._values[id(given)].setType(type_)
        return self._values[id(given)]

    def function(self) -> Callable[[], None]:
        """The graph as a function."""
        self._graph.registerOutput(self._constant(None))
        call, inputs = torch._C._create_function_from_graph("steps", self._graph), self._inputs

        def run() -> None:
            # What is recorded needs no notes for autograd, and is to stay as it is.
            before = torch._C._get_graph_executor_optimize()
            torch._C._set_graph_executor_optimize(False)
            try:
                with torch._C._AutoDispatchBelowAutograd():
                    call(*inputs)
            finally:
                torch._C._set_graph_executor_optimize(before)

        return run
