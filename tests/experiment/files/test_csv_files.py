"""CSV files come back as they were written, and what was damaged since is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.csv_files import read_rows, write_rows

ROWS = [
    {"vector_steps": 10, "task": 'a "task", or two', "success_rate": 0.5},
    {"vector_steps": 20, "task": "mean", "success_rate": ""},
]
HEADER = "vector_steps,task,success_rate\n"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "vector_steps": st.integers(0, 10**9),
                "task": st.text(st.characters(exclude_categories=["C"], exclude_characters="\n")),
                "value": st.floats(allow_nan=False, allow_infinity=False),
            }
        ),
        min_size=1,
    )
)
def test_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_rows(path, rows)
    written = [{name: str(value) for name, value in row.items()} for row in rows]
    assert read_rows(path, "vector_steps", "value") == written


def test_half_a_line_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.csv"
    write_rows(path, ROWS)
    whole = read_rows(path)
    with path.open("a") as file:
        file.write("30,mean,0.")
    assert read_rows(path) == whole
    assert len(whole) == 2


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "training.csv", "vector_steps") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEADER + "10,mean\n", "another number of cells"),
        (HEADER + "10,mean,0.5,1\n", "another number of cells"),
        ("vector_steps,task\n10,mean\n", "no column success_rate"),
        (HEADER + "10,mean,often\n", "often"),
        (HEADER + "10,mean,1.5\n", "a success rate is '1.5'"),
        (HEADER + "-1,mean,0.5\n", "the run was at"),
        (HEADER + ",mean,0.5\n", "the run was at"),
        (HEADER + "inf,mean,0.5\n", "the run was at"),
    ],
)
def test_damage_is_a_line_that_names_the_file(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "evaluation.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_rows(path, "success_rate")
    line = str(error.value)
    assert line.startswith(f"{path} is damaged: ")
    assert said in line
    assert "\n" not in line
