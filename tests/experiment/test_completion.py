"""Shells complete options, methods, tasks and presets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.cli import train_mt10
from mtrl_ntk.experiment.completion import completion
from mtrl_ntk.experiment.options.presets import presets

COMMANDS = ("train_mt10", "evaluate_mt10", "sweep_mt10", "report_mt10")


def completed(prog: str, *words: str) -> list[str]:
    """What bash offers for the last of the words after the command."""
    program = (
        completion(prog, "bash")
        + f"\nCOMP_WORDS=({prog} {' '.join(words)})\nCOMP_CWORD={len(words)}\n"
        + f'_shtab_{prog} {prog} "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"\n'
        + 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("prog", "words", "expected"),
    [
        ("train_mt10", ["--meth"], {"--method"}),
        ("train_mt10", ["--method", "ntk"], {"ntkmtl", "ntkmtl_sr"}),
        ("train_mt10", ["--method", "ntkmtl", "--tasks", "reach-"], {"reach-v3", "reach-wall-v3"}),
        ("train_mt10", ["--dry"], {"--dry-run"}),
        ("train_mt10", ["--benchmark", "MT"], {"MT10", "MT25", "MT50"}),
        ("evaluate_mt10", ["--goals", "u"], {"unseen"}),
        ("sweep_mt10", ["--methods", "imtl"], {"imtl_g"}),
        ("sweep_mt10", ["--methods", "equal,imtl"], {"equal,imtl_g"}),
        (
            "train_mt10",
            ["--tasks", "push-v3,reach-"],
            {"push-v3,reach-v3", "push-v3,reach-wall-v3"},
        ),
        ("evaluate_mt10", ["--tasks", "reach-v3,reach-"], {"reach-v3,reach-wall-v3"}),
        ("report_mt10", ["--metrics", "iqm,gap,me"], {"iqm,gap,median"}),
        ("report_mt10", ["--anchors", "table4,a"], {"table4,all"}),
        ("sweep_mt10", ["--backend", "s"], {"slurm"}),
        ("train_mt10", ["--config", "mt10_q"], {"mt10_quick"}),
        ("sweep_mt10", ["--config", "mt3"], {"mt3_quick"}),
        (
            "evaluate_mt10",
            ["--list-"],
            {"--list-tasks", "--list-methods", "--list-presets", "--list-pretrained"},
        ),
        ("evaluate_mt10", ["--pretrained", "mt"], {"mt10"}),
        ("report_mt10", ["--resampl"], {"--resample", "--resamples"}),
    ],
)
def test_bash_completes(prog: str, words: list[str], expected: set[str]) -> None:
    assert {*completed(prog, *words)} == expected


def test_a_config_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mt10_mine.yaml").touch()
    found = {*completed("train_mt10", "--config", "mt10_")}
    assert found == {"mt10_mine.yaml", *(name for name in presets() if name.startswith("mt10_"))}


def test_every_method_and_its_options_are_known() -> None:
    assert {*completed("train_mt10", "--method", "''")} >= {*METHODS}
    assert "--exponent" in completed("train_mt10", "--method", "equal", "--expo")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
@pytest.mark.parametrize("prog", COMMANDS)
def test_other_shells_get_a_script(prog: str, shell: str) -> None:
    script = completion(prog, shell)
    assert prog in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)


def test_the_command_prints_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_mt10", "--print-completion", "bash"])
    train_mt10()
    assert " -F _shtab_train_mt10 train_mt10" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["train_mt10", "--print-completion=fish"])
    with pytest.raises(SystemExit) as stop:
        train_mt10()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
