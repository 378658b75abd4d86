"""Whether two tables agree on the order of methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.study.ranks import main

ROWS = {"equal": 3.0, "pcgrad": 2.0, "ntkmtl": -1.0, "mgda": 8.0}


def table(path: Path, rows: dict[str, float]) -> str:
    lines = [f"{method},{value}" for method, value in rows.items()]
    path.write_text("\n".join(["method,delta_m_percent", *lines, "STL,"]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("sign", "said"), [(1.0, "correlation +1.00"), (-1.0, "correlation -1.00")]
)
def test_the_same_and_the_opposite_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sign: float, said: str
) -> None:
    other = {method: sign * value**3 for method, value in reversed(ROWS.items())} | {"only": 5.0}
    main([table(tmp_path / "a.csv", ROWS), table(tmp_path / "b.csv", other)])
    assert said in (output := capsys.readouterr().out)
    assert output.startswith("4 methods")


@pytest.mark.parametrize("column", ["delta_m_percent", "miou"])
def test_tables_that_share_nothing_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    tables = [table(tmp_path / "a.csv", ROWS), table(tmp_path / "b.csv", {"only": 5.0})]
    with pytest.raises(SystemExit) as ended:
        main([*tables, "--column", column])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
