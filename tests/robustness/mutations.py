"""Damage to files: bytes turned and cut, and JSON that is valid but says something else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 1 << 31, 1 << 62, 1 << 63, -(1 << 63), 1 << 200, 10**4000),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "1", "nan", "..", ".", "/etc/passwd"),
    *("../../outside", "a/b", "\x00", "\ud800", "\n", "é" * 300, "9" * 5000, [], {}, [[]], [1, 2]),
    *({"a": {"b": []}}, {"tensor": "x"}, [None] * 50, {"": ""}),
)
"""Values that something may not expect."""


def damaged(rng: random.Random, content: bytes) -> bytes:
    """One to three random damages to some bytes."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_DAMAGES)(rng, content)
    return content


def _flip(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randint(0, len(content))]


def _remove(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.randint(0, len(content)) for _ in range(2))
    return content[:first] + content[min(last, first + 40) :]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.randint(0, len(content)) for _ in range(2))
    return content[:last] + content[first : first + 200] * rng.randint(1, 3) + content[last:]


def _insert(rng: random.Random, content: bytes) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + rng.choice(_FRAGMENTS) + content[place:]


def _overwrite(rng: random.Random, content: bytes) -> bytes:
    place = rng.randint(0, len(content))
    inserted = rng.choice(_FRAGMENTS)
    return content[:place] + inserted + content[place + len(inserted) :]


def _anything(rng: random.Random, content: bytes) -> bytes:
    return rng.randbytes(rng.randint(0, min(300, 2 * len(content) + 10)))


_FRAGMENTS = (
    *(
        b"\x00",
        b"\xff",
        b"\xff" * 8,
        b"\r\n",
        b"\n\n",
        b'"',
        b",",
        b",,,",
        b"{",
        b"[[[[[[",
        b"]",
        b":",
    ),
    *(
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"&a ",
        b"*a",
        b"!!x ",
        b"? ",
        b"|",
        b"%",
        b"\xef\xbb\xbf",
    ),
    *("١".encode(), b"..", b"/", b"null", b"true", b"0x", b"\t", b"#", b"- "),
)
_DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _flip, _cut, _remove, _repeat, _insert, _insert, _overwrite, _anything),
)


def altered(rng: random.Random, value: Any) -> Any:  # noqa: ANN401 - JSON
    """Some JSON in which one to three values are others, missing, moved or renamed."""
    result = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        result = _alter(rng, result)
    return result


def _alter(rng: random.Random, value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict | list) or not value or rng.random() < 0.08:
        return copy.deepcopy(rng.choice(ODD))
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    action = rng.random()
    if action < 0.75:
        value[key] = _alter(rng, value[key])
    elif action < 0.85:
        del value[key]
    elif action < 0.93:
        value[key] = copy.deepcopy(value[rng.choice(keys)])
    elif isinstance(value, dict):
        value[rng.choice(["", "extra", "..", "a/b"])] = value.pop(key)
    else:
        value.insert(key, _nested(rng))
    return value


def _nested(rng: random.Random) -> Any:  # noqa: ANN401 - JSON
    value: Any = rng.choice(ODD)
    for _ in range(rng.choice([1, 3, 400])):
        value = [value] if rng.random() < 0.5 else {"x": value}
    return value


def as_json(value: object) -> bytes | None:
    """The JSON of a value, None if it cannot be written."""
    try:
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None
