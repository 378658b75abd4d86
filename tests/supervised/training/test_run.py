"""What a supervised run leaves behind, that it repeats itself, and goes on where it was."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError, Interrupted, RunFailed, UserError
from mtrl_ntk.experiment.checkpoints.archive import checkpoints, load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.experiment.config import NEWEST
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.datasets.digits import Digits
from mtrl_ntk.supervised.reports.data import read_run
from mtrl_ntk.supervised.scores import Counters, Scores, read_scores
from mtrl_ntk.supervised.training import run as training
from mtrl_ntk.supervised.training.run import Estimate, SupervisedRun, train
from mtrl_ntk.supervised.training.trainer import EpochTrainer
from tests.experiment.logs.logged import read_events
from tests.experiment.outcomes import assert_same, outcome
from tests.supervised.runs import BATCHES, EPOCHS, tiny

END = BATCHES * EPOCHS


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "plot_supervised", lambda _: [])
    monkeypatch.setattr(training, "draw_predictions", lambda *_: [])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def resumed(config: SupervisedConfig) -> SupervisedConfig:
    return replace(config, resume=NEWEST)


def kill_at(patch: pytest.MonkeyPatch, update: int) -> None:
    """Ends a run before an update as a kill would: nothing more is saved."""
    take_step = EpochTrainer.take_step

    def take_or_die(trainer: EpochTrainer) -> None:
        if trainer._clock.step == update:
            raise KeyboardInterrupt
        take_step(trainer)

    patch.setattr(EpochTrainer, "take_step", take_or_die)


def test_a_run_leaves_its_settings_logs_and_checkpoints(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    result = train(config, quiet=True)
    names = {path.name for path in (tmp_path / "run").iterdir() if "tfevents" not in path.name}
    files = {"config.yaml", "run.json", "training.csv", "evaluation.csv", "checkpoint"}
    assert names - {".lock"} == files
    assert config.family.read(tmp_path / "run" / "config.yaml") == replace(config, run_dir=None)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["protocol"]["examples"] == "35 train, 21 test"
    assert info["protocol"]["train_pairs"] == 35
    rows = table(tmp_path / "run" / "training.csv")
    assert [row["updates"] for row in rows] == ["3", "6", str(END)]
    assert [row["epochs"] for row in rows] == ["0", "1", "2"]
    assert all(float(row["weights/network/left"]) > 0 for row in rows)
    scores = read_scores(tmp_path / "run")
    assert [*scores] == [BATCHES, END]
    assert scores[END]["sum"] == pytest.approx(dict(result.values["sum"]), rel=1e-8)
    found = load_newest(tmp_path / "run" / "checkpoint")
    assert found.checkpoint.metadata["counters"]["epochs"] == EPOCHS
    assert found.checkpoint.metadata["finished"]


def test_a_run_that_the_disk_cannot_hold_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtrl_ntk.experiment.training.disk_space.free_space", lambda _: 1000)
    with pytest.raises(UserError, match=r"the run needs .* MB .*, 0\.0 MB are free"):
        train(tiny(tmp_path / "run"), quiet=True)
    assert [*tmp_path.iterdir()] == []


def test_a_run_writes_no_more_than_was_estimated(tmp_path: Path) -> None:
    run = SupervisedRun(tiny(tmp_path / "run"), quiet=True)
    need = run.disk_need(run.make_learner())
    train(tiny(tmp_path / "run"), quiet=True)
    newest = load_newest(tmp_path / "run" / "checkpoint").folder
    assert sum(path.stat().st_size for path in newest.iterdir()) <= need.checkpoint
    written = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert written <= need.most


def test_tensorboard_shows_metrics_and_results(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run"), quiet=True)
    events = read_events(tmp_path / "run")
    steps = [event.step for event in events.Scalars("metrics/left/accuracy")]
    assert steps == [BATCHES, END]
    tags = events.Tags()["scalars"]
    assert "training_weights/network/sum" in tags
    assert "metrics_final/left/accuracy" in tags
    assert not [tag for tag in tags if "critic" in tag or "success" in tag]


def test_the_same_seed_has_the_same_outcome_and_another_has_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        train(tiny(tmp_path / name, seed=seed), quiet=True)
    assert_same(tmp_path / "one", tmp_path / "same")
    assert outcome(tmp_path / "one") != outcome(tmp_path / "other")


STATEFUL = ("ntkmtl_sr", "famo", "moco", "gradnorm", "rlw")


@pytest.mark.parametrize(
    ("method", "update"),
    [
        *((STATEFUL[0], update) for update in (1, BATCHES, BATCHES + 2)),
        *((method, BATCHES + 2) for method in STATEFUL[1:]),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit_at_any_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, update: int
) -> None:
    settings = {"method": method, "checkpoint_every": 1, "eigenvalues_every": 2}
    straight, killed = (tiny(tmp_path / name, **settings) for name in ("straight", "killed"))
    train(straight, quiet=True)
    with monkeypatch.context() as patch:
        kill_at(patch, update)
        with pytest.raises(KeyboardInterrupt):
            train(killed, quiet=True)
    train(resumed(killed), quiet=True)
    assert_same(tmp_path / "straight", tmp_path / "killed")


def test_the_learning_rate_falls_on_a_plateau_also_across_a_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits, "splits", ("train", "test", "test"))
    settings = {"schedule": "plateau", "patience": 0, "learning_rate": 1e-9, "epochs": 4}
    straight, run = (tiny(tmp_path / name, **settings) for name in ("straight", "run"))
    train(straight, quiet=True)
    rows = table(tmp_path / "straight" / "training.csv")
    rates = [float(row["charts/learning_rate"]) for row in rows]
    assert [rates[0], rates[-1]] == pytest.approx([1e-9, 1e-9 / 8]), "nothing falls so slowly"
    with monkeypatch.context() as patch:
        kill_at(patch, 3 * BATCHES + 1)
        with pytest.raises(KeyboardInterrupt):
            train(run, quiet=True)
    train(resumed(run), quiet=True)
    assert_same(tmp_path / "straight", tmp_path / "run")


def test_a_signal_is_obeyed_within_an_epoch_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(tmp_path / "straight"), quiet=True)
    take_step = EpochTrainer.take_step

    def take_and_ask(trainer: EpochTrainer) -> None:
        take_step(trainer)
        if trainer._clock.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(EpochTrainer, "take_step", take_and_ask)
        with pytest.raises(Interrupted) as stop:
            train(tiny(tmp_path / "run"), quiet=True)
    assert f"train_supervised --run-dir {tmp_path / 'run'} --resume" in str(stop.value)
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoint")] == [
        "step-000000002"
    ]
    train(resumed(tiny(tmp_path / "run")), quiet=True)
    assert_same(tmp_path / "straight", tmp_path / "run")


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    train(tiny(tmp_path / "straight", epochs=3), quiet=True)
    train(tiny(tmp_path / "run"), quiet=True)
    longer = resumed(tiny(tmp_path / "run", epochs=3))
    train(longer, quiet=True)
    assert_same(tmp_path / "straight", tmp_path / "run")
    with pytest.raises(ConfigError, match="epochs is 2; it must be at least 3"):
        train(resumed(tiny(tmp_path / "run")), quiet=True)


def test_a_finished_run_shows_its_result_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(tiny(tmp_path / "run"), quiet=True)
    before = outcome(tmp_path / "run")
    assert train(resumed(tiny(tmp_path / "run"))) == result
    assert "nothing left to do" in capsys.readouterr().out
    assert outcome(tmp_path / "run") == before


def test_a_run_whose_description_is_lost_can_be_reported_once_it_went_on(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    train(config, quiet=True)
    (tmp_path / "run" / "run.json").write_text('{"started": "2026')
    longer = replace(config.epochs, epochs=EPOCHS + 1)
    train(replace(resumed(config), epochs=longer), quiet=True)
    assert read_run(tmp_path / "run").is_complete


def test_what_may_not_change_is_refused(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", epochs=1), quiet=True)
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.001, is 0\.5"):
        train(resumed(tiny(tmp_path / "run", learning_rate=0.5)), quiet=True)


def test_other_data_of_the_same_settings_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(tmp_path / "run", epochs=1), quiet=True)
    monkeypatch.setattr(Digits, "fingerprint", "of other scans")
    with pytest.raises(CheckpointError, match="learnt from other data of digits"):
        train(resumed(tiny(tmp_path / "run")), quiet=True)


def test_a_task_alone_is_learnt_by_the_same_network(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", tasks="sum", method="equal"), quiet=True)
    rows = table(tmp_path / "run" / "evaluation.csv")
    assert {row["task"] for row in rows} == {"sum"}
    assert "accuracy" not in rows[0]
    names = load_newest(tmp_path / "run" / "checkpoint").checkpoint.tensors
    assert {name.split(".")[1] for name in names if name.startswith("heads.")} == {"sum"}


def test_losses_that_are_not_finite_end_the_run_with_a_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = EpochTrainer.take_step

    def take_and_break(trainer: EpochTrainer) -> None:
        take_step(trainer)
        next(trainer._learner.network.trunk.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(EpochTrainer, "take_step", take_and_break)
    with pytest.raises(RunFailed, match=r"trunk\.0\.weight is not finite"):
        train(tiny(tmp_path / "run"), quiet=True)
    assert (tmp_path / "run" / "diagnosis").is_dir()


def test_the_progress_of_a_run_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(tiny(tmp_path / "run"))
    out = capsys.readouterr().out
    assert "ntkmtl_sr on 4 tasks of digits, seed 1, on cpu" in out
    assert "8 steps" in out
    assert "evaluation: left Accuracy" in out
    assert f"{result.values['sum']['mae']:.3f}" in out
    assert "Accuracy ↑" in out
    assert "MAE ↓" in out


def test_an_evaluation_comes_back_from_json(tmp_path: Path) -> None:
    result = train(tiny(tmp_path / "run"), quiet=True)
    assert Scores.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_duration_is_told_once_updates_were_timed() -> None:
    estimate = Estimate(1000)
    told = [estimate.after(Counters(n, 0, n, 10 + n / 2)) for n in range(1, 100)]
    known = [seconds for seconds in told if seconds is not None]
    assert known == [pytest.approx(10 + 500)]
