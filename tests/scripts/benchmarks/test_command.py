"""A mistake on a benchmark's command line is one line that names the fix, and exit code 2."""

from __future__ import annotations

from types import ModuleType

import pytest

from scripts.benchmarks import (
    envs as bench_envs,
    gpu as bench_gpu,
    loop as bench_loop,
    memory as bench_memory,
    peers as bench_peers,
    update as bench_update,
)

MISTAKES: dict[ModuleType, list[tuple[list[str], str]]] = {
    bench_envs: [
        (["--tasks", "reach"], "unknown task 'reach'"),
        (["--steps", "1"], "steps is 1"),
        (["--steps", "501"], "must be from 2 to 500"),
        (["--rounds", "0"], "rounds is 0"),
        (["--rounds", "x"], "--rounds is 'x'"),
        (["--workers=-1"], "none may be negative"),
        (["--json", "nowhere/bench.json"], "its folder does not exist"),
        (["--quik"], "did you mean --quick?"),
        (["extra"], "'extra'"),
    ],
    bench_gpu: [
        (["--ways", "eager,graph"], "ways: unknown 'graph'"),
        (["--precision", "fp16"], "precision: unknown 'fp16'"),
        (["--methods", "ntk"], "methods: unknown 'ntk'"),
        (["--methods", "ntkmtl_sr"], "cannot balance the network shared"),
        (["--updates", "0"], "updates is 0"),
    ],
    bench_loop: [
        (["--rows", "0"], "rows is 0"),
        (["--block", "0"], "block is 0"),
        (["--method", "ntkmlt"], "did you mean ntkmtl?"),
        (["--method", "ntkmtl_sr"], "cannot balance the network shared"),
        (["--workers=-2"], "workers is -2; it must be at least -1"),
    ],
    bench_memory: [
        (["--steps", "1"], "steps is 1"),
        (["--preset", "nowhere.yaml"], "nowhere.yaml"),
    ],
    bench_peers: [
        (["--envs", "51"], "at most 50"),
        (["--workers=-2"], "at least -1"),
        (["--peers", "vmpa"], "did you mean vmap?"),
    ],
    bench_update: [
        (["--rows", "x"], "--rows is 'x'"),
        (["--rounds", "-1"], "rounds is -1"),
        (["--minibatches", "1,3"], "must divide 128 rows"),
        (["--minibatches", "0"], "minibatches is 0"),
        (["--minibatches", ","], "minibatches is empty"),
        (["--methods", "ntkmtl,ntkmtl_sr"], "method ntkmtl_sr fits no network of shared"),
        (["--networks", "multihead"], "did you mean multi_head?"),
        (["--kernel", "feature"], "possible: loss, output"),
        (["--precision", "bf15"], "did you mean bf16?"),
        (["--scale", "5,0"], "scale is 0"),
        (["--device", "tpu"], "one of auto, cpu, cuda"),
        (["--widht", "3"], "did you mean --width?"),
    ],
}


@pytest.mark.parametrize(
    ("program", "argv", "said"),
    [(program, *mistake) for program, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], program: ModuleType, argv: list[str], said: str
) -> None:
    assert program.main(argv) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"{program.PROG}: error: ")
    assert errors.count("\n") == 1
    assert said in errors
