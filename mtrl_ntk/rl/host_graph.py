"""Records a procedure's operations on the CPU and repeats them, without Python around them.

Operations of a small network are short, and what PyTorch does before each of them takes as long:
modules, views, autograd's notes for a backward pass that is already known. A recording has the
operations that compute something, in their order and on fixed memory, the backward pass included.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from mtrl_ntk.rl.cuda_graph import Procedure

_ALIGNMENT = 64  # bytes, as the allocator has it: products may round by where their factors lie
_DECIDED_BY_NUMBERS = (torch.Tag.data_dependent_output,)
_WITHOUT_CONTENT = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_COPIES = ("clone", "_to_copy")
_OF_NEW_TENSORS = {"dtype", "layout", "device", "pin_memory", "memory_format"}


class _Place(NamedTuple):
    """A tensor by where its numbers are."""

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class _Operation(NamedTuple):
    """An operation with places instead of tensors."""

    func: OpOverload[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        return str(self.func.overloadpacket.__name__)


class _Log(TorchDispatchMode):
    """Notes the operations that it lets through.

    Attributes:
        operations: The operations.
        given: Tensors that were there before, by their storage.
        sizes: Bytes of the storages that operations have made.
        decides: Whether Python has looked at a number.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Operation] = []
        self.given: dict[int, Tensor] = {}
        self.sizes: dict[int, int] = {}
        self.decides = False
        self._weak: dict[int, Any] = {}  # handles, which are numbers

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func`` and notes it."""
        kwargs = kwargs or {}
        self.decides |= any(tag in func.tags for tag in _DECIDED_BY_NUMBERS)
        for tensor in _tensors((args, kwargs)):
            if tensor.untyped_storage()._cdata not in self.sizes:
                self.given.setdefault(tensor.untyped_storage()._cdata, tensor.detach())
        # Before it runs, as it may change a tensor's shape in place.
        args_of, kwargs_of = tree_map_only(Tensor, self._place, (args, kwargs))
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.given:
                self.sizes.setdefault(storage._cdata, storage.nbytes())
        places = tree_map_only(Tensor, self._place, result)
        self.operations.append(_Operation(func, args_of, kwargs_of, places))
        return result

    def _place(self, tensor: Tensor) -> _Place:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weak:
            # Its memory may go, but no other storage takes its number.
            self._weak[storage._cdata] = storage._weak_ref()
        return _Place(
            storage._cdata,
            tensor.dtype,
            tuple(tensor.shape),
            tensor.stride(),
            int(tensor.storage_offset()),
        )

    def kept(self) -> dict[int, torch.UntypedStorage]:
        """The storages that were there before, and those that somebody has kept."""
        storages = {key: tensor.untyped_storage() for key, tensor in self.given.items()}
        for key in self.sizes:
            storage = torch.UntypedStorage._new_with_weak_ptr(self._weak[key])
            if storage is not None:
                storages[key] = storage
        return storages

    def __del__(self) -> None:
        for weak in self._weak.values():
            torch.UntypedStorage._free_weak_ref(weak)


class _Memory:
    """Gives what a recording makes memory, and to others when it is no longer read.

    Args:
        log: The recording.
    """

    def __init__(self, log: _Log) -> None:
        self._sizes = log.sizes
        self._storages = log.kept()
        self._free: defaultdict[int, list[torch.UntypedStorage]] = defaultdict(list)
        self._tensors: dict[_Place, Tensor] = {}
        self._uses = Counter(chain.from_iterable(map(_storages, log.operations)))
        self._kept = set(self._storages)

    def tensors(self, places: Any) -> Any:  # noqa: ANN401
        """The same tree with tensors for places."""
        return tree_map(self._tensor, places, is_leaf=_is_place)

    def _tensor(self, place: Any) -> Any:  # noqa: ANN401
        if not _is_place(place):
            return place
        if place not in self._tensors:
            storage = self._storages.get(place.storage)
            if storage is None:
                storage = self._storages[place.storage] = self._new(place.storage)
            self._tensors[place] = torch.empty(0, dtype=place.dtype).set_(
                storage, place.offset, place.size, place.stride
            )
        return self._tensors[place]

    def _new(self, key: int) -> torch.UntypedStorage:
        size = self._rounded(key)
        # The latest one, which is still in the cache.
        if self._free[size]:
            return self._free[size].pop()
        return torch.empty(size, dtype=torch.uint8).untyped_storage()

    def _rounded(self, key: int) -> int:
        return -(-max(self._sizes[key], 1) // _ALIGNMENT) * _ALIGNMENT

    def release(self, operation: _Operation) -> None:
        """Takes back what no later operation reads."""
        storages = _storages(operation)
        self._uses.subtract(storages)
        for key in dict.fromkeys(storages):
            if not self._uses[key] and key not in self._kept and key in self._storages:
                self._free[self._rounded(key)].append(self._storages[key])


class _Step(NamedTuple):
    """What a replay does at once."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _steps(log: _Log) -> list[_Step]:
    """The operations that compute something, on memory of their own."""
    memory, steps = _Memory(log), []
    for operation in log.operations:
        if _computes(operation):
            steps.append(_step(operation, memory))
        memory.release(operation)
    return steps


def _computes(operation: _Operation) -> bool:
    """Whether an operation does more than to look at memory in another way."""
    if torch.Tag.inplace_view in operation.func.tags:
        return False
    if operation.func._schema.is_mutable:
        return True
    read = {place.storage for place in _places((operation.args, operation.kwargs))}
    makes = any(place.storage not in read for place in _places(operation.result))
    return makes and operation.name not in _WITHOUT_CONTENT


def _step(operation: _Operation, memory: _Memory) -> _Step:
    func, args, kwargs, _ = operation
    args, kwargs = memory.tensors((args, kwargs))
    if func._schema.is_mutable:
        return _Step(func, args, kwargs)
    leaves = tree_leaves(operation.result, is_leaf=_is_place)
    targets = memory.tensors(leaves)
    if operation.name in _COPIES:
        return _Step(torch.ops.aten.copy_.default, (targets[0], args[0]), {})
    variant = _out_variant(func) if all(map(_is_place, leaves)) else None
    if variant is None:
        return _Step(_run_and_copy, (func, args, kwargs, targets), {})
    arguments = variant._schema.arguments
    given = {a.name for a in arguments if not a.is_out}
    outs = dict(zip((a.name for a in arguments if a.is_out), targets, strict=True))
    return _Step(variant, args, {k: v for k, v in kwargs.items() if k in given} | outs)


def _run_and_copy(
    func: OpOverload[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    targets: Sequence[Tensor | None],
) -> None:
    for target, result in zip(targets, tree_leaves(func(*args, **kwargs)), strict=True):
        if target is not None:
            target.copy_(result)


def _out_variant(func: OpOverload[..., Any]) -> OpOverload[..., Any] | None:
    """The same operation into tensors that are there, if there is one."""
    types = {a.name: str(a.type) for a in func._schema.arguments}
    for name in func.overloadpacket.overloads():
        variant: OpOverload[..., Any] = getattr(func.overloadpacket, name)
        arguments = variant._schema.arguments
        given = {a.name: str(a.type) for a in arguments if not a.is_out}
        num_outs = len(arguments) - len(given)
        if (
            num_outs == len(func._schema.returns)
            and given.items() <= types.items()
            and types.keys() - given.keys() <= _OF_NEW_TENSORS
        ):
            return variant
    return None


class Replay:
    """What repeats a procedure from a recording of it.

    The first call does nothing, as the procedure ran while it was recorded. The second runs it
    again, and repeats it from the recording as well: if that does not write the same bits, it is
    the procedure that runs from then on. So whatever a recording cannot hold, such as a method that
    keeps numbers in Python, costs time but changes nothing.

    Args:
        log: The recording.
        procedure: What was recorded.
        generators: The random streams it draws from.
    """

    def __init__(
        self, log: _Log, procedure: Procedure, generators: Sequence[torch.Generator]
    ) -> None:
        self._procedure, self._generators = procedure, [*generators, torch.default_generator]
        self.repeats = not log.decides
        self._steps = _steps(log) if self.repeats else []
        self._written = [
            torch.empty(0, dtype=torch.uint8).set_(log.given[key].untyped_storage())
            for key in _written(log)
        ]
        self._calls = 0

    def __call__(self) -> None:
        """Takes one run."""
        self._calls += 1
        if self._calls == 2 and self.repeats:
            self._compare()
        elif self._calls > 1 and self.repeats:
            self._repeat()
        elif self._calls > 1:
            self._procedure()

    def _repeat(self) -> None:
        # All that autograd would note is recorded.
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs in self._steps:
                func(*args, **kwargs)

    def _compare(self) -> None:
        before = self._state()
        self._procedure()
        expected = self._state()
        self._restore(before)
        self._repeat()
        self.repeats = all(map(torch.equal, self._state(), expected))
        self._restore(expected)
        # Of no more use.
        self._written = []

    def _state(self) -> list[Tensor]:
        streams = [generator.get_state() for generator in self._generators]
        return [*(tensor.clone() for tensor in self._written), *streams]

    def _restore(self, state: list[Tensor]) -> None:
        for tensor, numbers in zip(self._written, state, strict=False):
            tensor.copy_(numbers)
        for generator, numbers in zip(self._generators, state[len(self._written) :], strict=True):
            generator.set_state(numbers)


def _written(log: _Log) -> list[int]:
    """Storages that were there before and are written into."""
    written = {
        place.storage
        for operation in log.operations
        for argument, value in _arguments(operation)
        if argument.alias_info is not None and argument.alias_info.is_write
        for place in _places(value)
    }
    return [key for key in log.given if key in written]


def _arguments(operation: _Operation) -> Iterator[tuple[Any, Any]]:
    """The arguments of an operation, with what each was given."""
    for index, argument in enumerate(operation.func._schema.arguments):
        if index < len(operation.args):
            yield argument, operation.args[index]
        else:
            yield argument, operation.kwargs.get(argument.name)


class HostRecorder:
    """Records procedures on the CPU.

    Attributes:
        replays: What was recorded.
    """

    def __init__(self) -> None:
        self.replays: list[Replay] = []

    def warm_up(self, procedure: Procedure) -> None:
        """See :meth:`~mtrl_ntk.rl.cuda_graph.Recorder.warm_up`."""
        procedure()

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """See :meth:`~mtrl_ntk.rl.cuda_graph.Recorder.record`; the first replay is this run."""
        log = _Log()
        with log:
            procedure()
        self.replays.append(Replay(log, procedure, generators))
        return self.replays[-1]


def _tensors(tree: Any) -> list[Tensor]:  # noqa: ANN401
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _places(tree: Any) -> list[_Place]:  # noqa: ANN401
    return [leaf for leaf in tree_leaves(tree, is_leaf=_is_place) if _is_place(leaf)]


def _storages(operation: _Operation) -> list[int]:
    places = _places((operation.args, operation.kwargs, operation.result))
    return [place.storage for place in places]


def _is_place(leaf: object) -> bool:
    return isinstance(leaf, _Place)
