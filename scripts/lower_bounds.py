"""The oldest versions that pyproject.toml admits, as constraints of pip; `make fast-oldest`.

Prints a line such as ``numpy==1.26`` for every dependency, extras included::

    python -m scripts.lower_bounds > constraints-oldest.txt
    python -m scripts.lower_bounds --instead torch==2.13.0 > constraints-oldest.txt
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lower_bounds(pyproject: Mapping[str, Any]) -> dict[str, str]:
    """The oldest version of each dependency and extra, by normalised name.

    Raises:
        ValueError: If one has no lower bound, or two that differ.
    """
    project = pyproject["project"]
    own = canonicalize_name(project["name"])
    extras = project.get("optional-dependencies", {}).values()
    bounds: dict[str, str] = {}
    for text in chain(project["dependencies"], *extras):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == own:
            continue  # an extra that is made of others
        oldest = [each.version for each in requirement.specifier if each.operator in (">=", "==")]
        if len(oldest) != 1 or bounds.setdefault(name, oldest[0]) != oldest[0]:
            raise ValueError(f"{text!r} in pyproject.toml needs one lower bound, everywhere equal")
    return bounds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--instead",
        action="append",
        default=[],
        type=Requirement,
        metavar="NAME==VERSION",
        help="another version of a dependency, where its oldest cannot be installed",
    )
    asked = parser.parse_args(argv).instead
    others: dict[str, Requirement] = {canonicalize_name(each.name): each for each in asked}
    bounds = lower_bounds(tomllib.loads(PYPROJECT.read_text(encoding="utf-8")))
    if unknown := others.keys() - bounds.keys():
        parser.error(f"--instead names what pyproject.toml does not: {', '.join(sorted(unknown))}")
    for name, version in bounds.items():
        print(others.get(name, f"{name}=={version}"))


if __name__ == "__main__":
    main()
