"""Each module has a test file of its name where the tests mirror it, or stands on a list."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTED_ELSEWHERE = {
    "mtrl_ntk/supervised/reports/numbers.py": "tests/supervised/reports/test_report.py",
    "mtrl_ntk/supervised/reports/figures.py": "tests/supervised/reports/test_report.py",
    "mtrl_ntk/supervised/reports/data.py": "tests/supervised/reports/test_report.py",
    "mtrl_ntk/supervised/training/dry_run.py": "tests/supervised/test_command.py",
    "mtrl_ntk/supervised/training/display.py": "tests/supervised/training/test_run.py",
    "mtrl_ntk/supervised/scores.py": "tests/supervised/training/test_run.py",
    "mtrl_ntk/supervised/answers.py": "tests/supervised/test_command.py",
    "mtrl_ntk/experiment/training/whole.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/families.py": "tests/experiment/test_config.py",
    "mtrl_ntk/balancing/recorded_jacobian.py": "tests/balancing/test_recording.py",
    "mtrl_ntk/errors.py": "tests/test_cli.py",
    "mtrl_ntk/registration.py": "tests/rl/envs/test_vector_env_gymnasium.py",
    "mtrl_ntk/version.py": "tests/experiment/logs/test_run_info.py",
    "mtrl_ntk/experiment/checkpoints/resume.py": "tests/experiment/training/test_run_resume.py",
    "mtrl_ntk/experiment/checkpoints/run_state.py": "tests/experiment/training/test_run_resume.py",
    "mtrl_ntk/experiment/options/sections.py": "tests/experiment/options/test_fields.py",
    "mtrl_ntk/experiment/sweeps/backends/ray.py": (
        "tests/experiment/sweeps/backends/test_registry.py"
    ),
    "mtrl_ntk/experiment/training/assembly.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/training/collector.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/training/crash_dump.py": "tests/experiment/training/test_health.py",
    "mtrl_ntk/experiment/training/evaluations.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/training/loop.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/training/messages.py": "tests/experiment/training/test_run_resume.py",
    "mtrl_ntk/experiment/training/run_statistics.py": "tests/experiment/logs/test_metrics.py",
    "mtrl_ntk/experiment/training/trainer.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/experiment/training/training_log.py": "tests/experiment/training/test_run.py",
    "mtrl_ntk/rl/envs/bundle.py": "tests/rl/envs/test_workers.py",
    "mtrl_ntk/rl/envs/process.py": "tests/rl/envs/test_recovery.py",
    "mtrl_ntk/rl/suites/metaworld/camera.py": "tests/experiment/videos/test_filming.py",
    "mtrl_ntk/rl/suites/registry.py": "tests/rl/suites/test_suite.py",
    "mtrl_ntk/rl/types.py": "tests/rl/test_sac.py",
    "mtrl_ntk/supervised/datasets/cityscapes.py": "tests/supervised/datasets/test_npy_folders.py",
    "mtrl_ntk/supervised/datasets/nyuv2.py": "tests/supervised/datasets/test_npy_folders.py",
    "mtrl_ntk/supervised/datasets/scene_drawing.py": "tests/supervised/datasets/test_scenes.py",
    "mtrl_ntk/supervised/networks/registry.py": "tests/supervised/datasets/test_registry.py",
    "mtrl_ntk/supervised/networks/small_cnn.py": "tests/supervised/networks/test_network.py",
}
"""Where the test files are of what has none of its name."""


def mirrored(module: Path) -> Path:
    """Where the tests of a module are, by its name."""
    parts = module.parts[1:] if module.parts[0] == "mtrl_ntk" else module.parts
    return Path("tests", *parts[:-1], f"test_{parts[-1]}")


def modules() -> set[Path]:
    """All modules but those of a package's own name."""
    found = [path for top in ("mtrl_ntk", "scripts") for path in (ROOT / top).rglob("*.py")]
    return {path.relative_to(ROOT) for path in found if not path.stem.startswith("__")}


def test_every_module_has_tests_of_its_name_or_tests_that_are_known() -> None:
    without = {module.as_posix() for module in modules() if not (ROOT / mirrored(module)).exists()}
    assert without - {*TESTED_ELSEWHERE} == set()
    assert {*TESTED_ELSEWHERE} - without == set(), "these have tests of their name by now"


def test_the_list_names_files_that_are_there() -> None:
    assert [path for path in TESTED_ELSEWHERE.values() if not (ROOT / path).exists()] == []
