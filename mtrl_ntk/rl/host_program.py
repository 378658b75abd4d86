"""What has to be done, and on which memory, to repeat recorded operations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

from mtrl_ntk.rl.host_log import Log, Operation, Place, is_place

_ALIGNMENT = 64  # bytes, as the allocator has it: products may round by where their factors lie
_COPIES = ("clone", "_to_copy")
_OF_NEW_TENSORS = {"dtype", "layout", "device", "pin_memory", "memory_format"}
_OF_SHAPES = ("ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full")
"""Operations that are given a tensor and do not look at its numbers."""


class Step(NamedTuple):
    """What a repetition does at once."""

    func: OpOverload[..., Any]
    """An operation."""
    args: tuple[Any, ...]
    """What it is given."""
    kwargs: dict[str, Any]
    """What it is given by name."""
    targets: Sequence[Tensor | None] = ()
    """Where its results are copied, if it does not write them there."""
    name: str = ""
    """What was recorded."""

    def run(self) -> None:
        """Runs it."""
        results = self.func(*self.args, **self.kwargs)
        for target, result in zip(self.targets, tree_leaves(results), strict=bool(self.targets)):
            if target is not None:
                target.copy_(result)


def program(log: Log) -> list[Step]:
    """The steps that repeat a recording, on memory of their own.

    What comes out alike each time is computed here, once and for all.
    """
    known = _Known(log)
    operations = [each for each in map(known.take_in, log.operations) if each is not None]
    operations = _without_what_nobody_reads(operations, log)
    memory, steps = _Memory(log, operations, known.constants), []
    for operation in operations:
        memory.hand_on(operation)
        step = _step(operation, memory)._replace(name=operation.name)
        if known.is_constant(operation):
            step.run()
        else:
            steps.append(step)
        memory.release(operation)
    return steps


class _Known:
    """Leaves out operations whose results are there already.

    Args:
        log: The recording.

    Attributes:
        constants: Storages whose numbers are the same in every run.
    """

    def __init__(self, log: Log) -> None:
        self.constants: set[int] = set()
        # Who keeps a result wants the numbers in that memory, and no others.
        self._unique: set[int] = {*log.kept()}.union(*(each.changes for each in log.operations))
        self._versions = Counter[int]()
        self._results: dict[str, list[Place]] = {}
        self._instead: dict[int, int] = {}

    def take_in(self, operation: Operation) -> Operation | None:
        """The next operation, with the places to read from; None if it is not needed."""
        if not operation.computes:
            return None
        func, *given, result = operation
        args, kwargs = tree_map(self._present, given, is_leaf=is_place)
        operation = Operation(func, args, kwargs, result)
        self._versions.update(operation.changes)
        if not self._may_be_known(operation):
            return operation
        if self._is_constant(operation):
            self.constants.update(place.storage for place in operation.made)
        # Places tell all of a tensor but the numbers, of which there is one version after another.
        versions = [self._versions[place.storage] for place in operation.read]
        made = operation.made
        known = self._results.setdefault(f"{func}{args}{kwargs}{versions}", made)
        if known is made:
            return operation
        for place, same in zip(made, known, strict=True):
            self._instead[place.storage] = same.storage
        return None

    def _present(self, leaf: Any) -> Any:  # noqa: ANN401
        if is_place(leaf) and leaf.storage in self._instead:
            return leaf._replace(storage=self._instead[leaf.storage])
        return leaf

    def _may_be_known(self, operation: Operation) -> bool:
        return not _has_effects(operation) and not any(
            place.storage in self._unique for place in operation.made
        )

    def _is_constant(self, operation: Operation) -> bool:
        read = [] if operation.name in _OF_SHAPES else operation.read
        return all(place.storage in self.constants for place in read)

    def is_constant(self, operation: Operation) -> bool:
        """Whether an operation's results are the same in every run."""
        return any(place.storage in self.constants for place in operation.made)


def _has_effects(operation: Operation) -> bool:
    """Whether an operation changes what was there before: numbers, or a random stream."""
    is_random = torch.Tag.nondeterministic_seeded in operation.func.tags
    return is_random or operation.func._schema.is_mutable


def _without_what_nobody_reads(operations: list[Operation], log: Log) -> list[Operation]:
    wanted, found = {*log.kept()}, []
    for operation in reversed(operations):
        if _has_effects(operation) or any(place.storage in wanted for place in operation.made):
            wanted.update(place.storage for place in operation.read)
            found.append(operation)
    return found[::-1]


class _Memory:
    """Gives what a recording makes memory, and to others when it is no longer read.

    Args:
        log: The recording.
        operations: Those of its operations that are repeated.
        constants: Storages that are written once, before all runs.
    """

    def __init__(self, log: Log, operations: Iterable[Operation], constants: set[int]) -> None:
        self._sizes = log.sizes
        self._storages = log.kept()
        self._free: defaultdict[int, list[torch.UntypedStorage]] = defaultdict(list)
        self._tensors: dict[Place, Tensor] = {}
        self._uses = Counter(chain.from_iterable(each.storages for each in operations))
        self._held = {*self._storages, *constants}

    def tensors(self, tree: Any) -> Any:  # noqa: ANN401
        """The same tree with tensors for places."""
        return tree_map(self._tensor, tree, is_leaf=is_place)

    def _tensor(self, place: Any) -> Any:  # noqa: ANN401
        if not is_place(place):
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
        if key not in self._held and self._free[size]:
            return self._free[size].pop()
        return torch.empty(size, dtype=torch.uint8).untyped_storage()

    def _rounded(self, key: int) -> int:
        return -(-max(self._sizes[key], 1) // _ALIGNMENT) * _ALIGNMENT

    def hand_on(self, operation: Operation) -> None:
        """Lets an operation that works number by number write where it reads for the last time.

        So fewer numbers have to stay in the caches.
        """
        if torch.Tag.pointwise not in operation.func.tags or not is_place(operation.result):
            return
        result: Place = operation.result
        if result.storage in (*self._storages, *self._held):
            return
        for place in operation.read:
            if place._replace(storage=result.storage) == result and self._ends(place, operation):
                self._storages[result.storage] = self._storages[place.storage]
                self._tensors[result] = self._tensor(place)
                self._held.add(place.storage)
                return

    def _ends(self, place: Place, operation: Operation) -> bool:
        """Whether an operation is the last to read a place, and reads nothing else there."""
        key = place.storage
        others = [each for each in operation.read if each.storage == key and each != place]
        is_last = self._uses[key] == operation.storages.count(key)
        return is_last and not others and key not in self._held

    def release(self, operation: Operation) -> None:
        """Takes back what no later operation reads."""
        self._uses.subtract(operation.storages)
        for key in dict.fromkeys(operation.storages):
            if not self._uses[key] and key not in self._held and key in self._storages:
                self._free[self._rounded(key)].append(self._storages[key])


def _step(operation: Operation, memory: _Memory) -> Step:
    func, args, kwargs, _ = operation
    args, kwargs = memory.tensors((args, kwargs))
    if func._schema.is_mutable:
        return Step(func, args, kwargs)
    leaves = tree_leaves(operation.result, is_leaf=is_place)
    targets = memory.tensors(leaves)
    if operation.name in _COPIES:
        return Step(torch.ops.aten.copy_.default, (targets[0], args[0]), {})
    if targets[0] is args[0] and (in_place := _in_place_variant(func)):
        return Step(in_place, args, kwargs)
    is_each_one_tensor = len(leaves) == len(func._schema.returns) and all(map(is_place, leaves))
    variant = _out_variant(func) if is_each_one_tensor else None
    if variant is None:
        return Step(func, args, kwargs, targets)
    arguments = variant._schema.arguments
    given = {a.name for a in arguments if not a.is_out}
    outs = dict(zip((a.name for a in arguments if a.is_out), targets, strict=True))
    return Step(variant, args, {k: v for k, v in kwargs.items() if k in given} | outs)


def _in_place_variant(func: OpOverload[..., Any]) -> OpOverload[..., Any] | None:
    """The same operation into its first argument, if there is one.

    Many an operation that takes memory for its result is made of it: it takes memory of its own
    first, and copies.
    """
    packet = getattr(getattr(torch.ops, func.namespace), f"{func._opname}_", None)
    variant: OpOverload[..., Any] | None = getattr(packet, func._overloadname, None)
    return variant


def _out_variant(func: OpOverload[..., Any]) -> OpOverload[..., Any] | None:
    """The same operation into tensors that are there, if there is one."""
    types = {a.name: str(a.type) for a in func._schema.arguments}
    variants = [getattr(func.overloadpacket, name) for name in func.overloadpacket.overloads()]
    taken = [_types(variant) for variant in variants]
    for variant in variants:
        arguments = variant._schema.arguments
        given = {a.name: str(a.type) for a in arguments if not a.is_out}
        num_outs = len(arguments) - len(given)
        if (
            num_outs == len(func._schema.returns)
            and given.items() <= types.items()
            and types.keys() - given.keys() <= _OF_NEW_TENSORS
            # Where names do not count, ``max(a, out=b)`` would be ``max(a, b)``.
            and taken.count(_types(variant)) == 1
        ):
            found: OpOverload[..., Any] = variant
            return found
    return None


def _types(func: OpOverload[..., Any]) -> list[str]:
    return [str(argument.type) for argument in func._schema.arguments]
