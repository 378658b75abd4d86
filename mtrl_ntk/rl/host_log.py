"""Notes what operations a procedure on the CPU does, and with which numbers of which memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_DECIDED_BY_NUMBERS = (torch.Tag.data_dependent_output,)
_WITHOUT_CONTENT = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class Place(NamedTuple):
    """A tensor by where its numbers are."""

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class Operation(NamedTuple):
    """An operation with places instead of tensors."""

    func: OpOverload[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Its name without the kinds of its arguments."""
        return str(self.func.overloadpacket.__name__)

    @property
    def read(self) -> list[Place]:
        """What it was given."""
        return places((self.args, self.kwargs))

    @property
    def made(self) -> list[Place]:
        """What it has returned."""
        return places(self.result)

    @property
    def storages(self) -> list[int]:
        """Those of all places, as often as they occur."""
        return [place.storage for place in (*self.read, *self.made)]

    @property
    def changes(self) -> set[int]:
        """Storages of what it was given and has written into."""
        return {
            place.storage
            for argument, value in self._arguments()
            if argument.alias_info is not None and argument.alias_info.is_write
            for place in places(value)
        }

    @property
    def computes(self) -> bool:
        """Whether it does more than to look at memory in another way."""
        if torch.Tag.inplace_view in self.func.tags:
            return False
        if self.func._schema.is_mutable:
            return True
        read = {place.storage for place in self.read}
        makes = any(place.storage not in read for place in self.made)
        return makes and self.name not in _WITHOUT_CONTENT

    def _arguments(self) -> Iterator[tuple[Any, Any]]:
        """The arguments, with what each was given."""
        for index, argument in enumerate(self.func._schema.arguments):
            if index < len(self.args):
                yield argument, self.args[index]
            else:
                yield argument, self.kwargs.get(argument.name)


class Log(TorchDispatchMode):
    """Notes the operations that it lets through.

    Attributes:
        operations: The operations.
        given: Tensors that were there before, by their storage.
        sizes: Bytes of the storages that operations have made.
        decides: Whether Python has looked at a number.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.given: dict[int, Tensor] = {}
        self.sizes: dict[int, int] = {}
        self.decides = False
        self._weak: dict[int, Any] = {}  # handles, which are numbers

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: keeping compilers out would import one, which takes seconds."""
        return False

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
        of_result = tree_map_only(Tensor, self._place, result)
        self.operations.append(Operation(func, args_of, kwargs_of, of_result))
        return result

    def _place(self, tensor: Tensor) -> Place:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weak:
            # Its memory may go, but no other storage takes its number.
            self._weak[storage._cdata] = storage._weak_ref()
        return Place(
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

    @property
    def written(self) -> list[Tensor]:
        """The whole storages that were there before and are written into, as bytes."""
        changed: set[int] = set().union(*(operation.changes for operation in self.operations))
        return [
            torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            for key, tensor in self.given.items()
            if key in changed
        ]

    def __del__(self) -> None:
        for weak in self._weak.values():
            torch.UntypedStorage._free_weak_ref(weak)


def is_place(leaf: object) -> bool:
    """Whether a leaf of a tree of arguments is a place."""
    return isinstance(leaf, Place)


def places(tree: Any) -> list[Place]:  # noqa: ANN401
    """All places in a tree of arguments."""
    return [leaf for leaf in tree_leaves(tree, is_leaf=is_place) if is_place(leaf)]


def _tensors(tree: Any) -> list[Tensor]:  # noqa: ANN401
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
