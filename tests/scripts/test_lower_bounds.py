"""The oldest versions that pyproject.toml admits, written once and read from there."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scripts.lower_bounds import PYPROJECT, lower_bounds, main


def pyproject(*dependencies: str, **extras: list[str]) -> dict[str, Any]:
    project = {"name": "own", "dependencies": dependencies, "optional-dependencies": extras}
    return {"project": project}


def test_each_dependency_and_extra_has_its_oldest_version() -> None:
    bounds = lower_bounds(
        pyproject(
            "A_b>=1.2,<2",
            "c==3.1; python_version >= '3.11'",
            one=["own[two]", "d[x,y]>=0.5"],
            two=["e!=1.5,>=1", "a.b[z]>=1.2"],
        )
    )
    assert bounds == {"a-b": "1.2", "c": "3.1", "d": "0.5", "e": "1"}


@pytest.mark.parametrize(
    "dependencies", [["a"], ["a<2"], ["a~=1.0"], ["a>=1,==1.5"], ["a>=1", "a>=2"]]
)
def test_what_has_no_single_lower_bound_is_an_error(dependencies: list[str]) -> None:
    with pytest.raises(ValueError, match="needs one lower bound"):
        lower_bounds(pyproject(*dependencies))


def test_all_of_this_project_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    printed = capsys.readouterr().out.splitlines()
    named = re.findall(r'"([\w-]+)(?:\[[\w,]+])?>=', PYPROJECT.read_text(encoding="utf-8"))
    wanted = {name.lower() for name in named} - {"setuptools"}
    assert {line.split("==")[0] for line in printed} == wanted
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", line) for line in printed)


def test_another_version_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    usual = capsys.readouterr().out.splitlines()
    main(["--instead", "Torch==2.99.0"])
    changed = capsys.readouterr().out.splitlines()
    differing = [pair for pair in zip(usual, changed, strict=True) if pair[0] != pair[1]]
    assert [new.lower() for _, new in differing] == ["torch==2.99.0"]
    with pytest.raises(SystemExit):
        main(["--instead", "no-such-package==1"])
    assert "what pyproject.toml does not: no-such-package" in capsys.readouterr().err
