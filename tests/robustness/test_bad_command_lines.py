"""Every mistake on a command line or in a file ends in one line that says what to do instead."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrl_ntk import cli
from mtrl_ntk.experiment.sweeps import pool as sweep_pool
from mtrl_ntk.rl.envs import vector_env as envs
from tests.robustness.bad_inputs import listing, write_world

TRAIN = """
--seed x                          | --seed is 'x'; it must be a whole number
--seed 1.5                        | it must be a whole number
--seed nan                        | it must be a whole number
--seed ''                         | it must be a whole number
--seed ١                          | it must be a whole number
--seed ²                          | it must be a whole number
--seed none                       | it must be a whole number
--seed -1                         | seed is -1; it must be from 0 to 4294967295
--seed 4294967296                 | it must be from 0 to 4294967295
--seed 99999999999999999999999999 | a whole number of at most 18 digits
--seed 1e308                      | a whole number of at most 18 digits
--seed                            | --seed: expected one argument
--seed 1 2                        | unexpected argument '2'
--sead 3                          | unknown option --sead; did you mean --seed?
--batch_size 3                    | did you mean --batch-size?
-s 3                              | unexpected argument '-s'; --help shows the usage
seed=3                            | unexpected argument 'seed=3'
--                                | unexpected argument '--'
--xyz                             | unknown option --xyz; --help lists all
--preset x                        | unknown option --preset
--lean yes                        | a switch takes no value
--lean=yes                        | --lean/--no-lean is a switch and takes no value
--critic-layer-norm false         | --NAME or --no-NAME
--gamma nan                       | --gamma is 'nan'; it must be a finite number
--gamma inf                       | it must be a finite number
--gamma 0                         | gamma is 0.0; it must be above 0 and at most 1
--gamma 1.5                       | it must be above 0 and at most 1
--tau -1                          | it must be above 0 and at most 1
--policy-tau 0                    | it must be above 0 and at most 1
--learning-rate fast              | it must be a finite number
--learning-rate 1e400             | it must be a finite number
--learning-rate 1e300             | it must be at most 1000000
--learning-rate 0                 | it must be above 0
--temperature-learning-rate 0     | it must be above 0
--adam-epsilon 0                  | it must be above 0
--max-grad-norm -1                | it must be at least 0
--reward-scale 1e308              | it must be at most 1000000
--reward-scale 0                  | it must be above 0
--initial-temperature 0           | it must be above 0
--target-entropy low              | it must be a finite number
--log-std-min 3                   | it must be below log_std_max, 2.0
--log-std-min -inf                | --log-std-min: expected one argument
--log-std-max 1e30                | it must be from -100 to 20
--width 0                         | width is 0; it must be at least 1
--width 1000000000                | it must be at most 65536
--width 65536 --depth 100         | set a smaller --width or --depth
--width 40000 --depth 99 --method equal --network independent | the networks need
--depth 0                         | it must be at least 1
--depth 100000000                 | it must be at most 100
--embedding-dim 0                 | it must be at least 1
--embedding-dim 100000000000      | it must be at most 65536
--network deep                    | it must be one of shared, task_embedding, multi_head
--batch-size 0                    | batch_size is 0; it must be at least 1
--batch-size 200000               | it must be at most replay_capacity, 100000
--batch-size 1000 --replay-capacity 500 | it must be at most replay_capacity, 500
--replay-capacity 0               | it must be at least 1
--replay-capacity 10000000000     | set --replay-capacity below
--replay-capacity 1000000000000000 | it must be at most 1000000000000
--num-minibatches 3               | num_minibatches is 3; it must divide batch_size, 128
--num-minibatches 0               | it must be at least 1
--num-minibatches -2              | it must be at least 1
--kernel-every -1                 | it must be at least 0
--kernel-every 10 --kernel-minibatches 7 | kernel_minibatches is 7; it must divide batch_size
--kernel-every 10 --network independent --method equal | kernel_every is 10; it must be 0
--network independent             | use --method equal
--method ntkmtl_sr --network shared | use --network multi_head
--method ntkmlt                   | unknown method 'ntkmlt'; did you mean ntkmtl?
--method ''                       | unknown method ''; possible: aligned_mtl, cagrad
--method ../equal                 | unknown method '../equal'; did you mean equal?
--method                          | --method: expected one argument
--method equal --exponent 1       | it is an option of ntkmtl and ntkmtl_sr, and the method is equal
--method pcgrad --cagrad-c 1      | it is an option of cagrad, and the method is pcgrad
--exponent -1                     | exponent is -1.0; it must be at least 0
--eigenvalue-floor 2              | it must be above 0 and at most 1
--kernel losses                   | it must be one of loss, output
--method fairgrad --fairgrad-alpha 0 | it must be from 0.1 to 10
--method go4align --go4align-groups 0 | it must be at least 1
--method graddrop --graddrop-leak 2 | it must be from 0 to 1
--benchmark MT11                  | it must be one of MT10, MT25, MT50
--suite mine                      | unknown suite 'mine'; it must be metaworld, or your own tasks
--suite ''                        | unknown suite ''
--suite nowhere.py:make           | there is no such file
--suite tests.own_tasks:Mass      | TypeError: Mass.__init__() missing 1 required positional
--suite tests.own_tasks:make_tasks --horizon 13 | it must be from 1 to 12
--suite tests.own_tasks:make_tasks --reward-version v1 | unknown option --reward-version
--suite tests.own_tasks:make_tasks --benchmark MT10 | it must be one of all
--suite tests.own_tasks:make_tasks --tasks reach-v3 | unknown task 'reach-v3'
--tasks ''                        | --tasks is empty; give at least one, or leave it out
--tasks ,                         | --tasks is empty
--tasks                           | --tasks: expected at least one argument
--tasks reach                     | unknown task 'reach'; did you mean 'reach-v3'?
--tasks reach-v2                  | did you mean 'reach-v3'?
--tasks 'reach-v3;push-v3'        | unknown task 'reach-v3;push-v3'
--tasks reach-v3,reach-v3         | task 'reach-v3' is given twice; use envs_per_task
--envs-per-task 0                 | it must be at least 1
--envs-per-task 1000000000        | it must be at most 1024
--horizon 501                     | it must be from 1 to 500
--horizon 0                       | it must be from 1 to 500
--reward-version v3               | it must be one of v1, v2
--reward-normalization std        | it must be one of none, running_variance
--goal-mode none                  | it must be one of resampled, fixed
--workers -2                      | it must be at least -1
--workers 1000000                 | it must be at most 1024
--threads -1                      | it must be at least 0
--threads 1000000                 | it must be at most 1024
--device tpu                      | it must be one of auto, cpu, cuda
--device cuda                     | device cuda is not available here; use --device cpu
--total-steps 0                   | it must be at least 1
--total-steps 10                  | it must be at least warmstart_steps, 4000
--warmstart-steps 2 --n-steps 3   | it must be at least n_steps, 3
--normalize-returns 10 --reward-scale 2 | it must be 1 with normalize_returns
--features relativ                | must be one of raw, running, relative
--total-steps 10000000000000      | it must be at most 1000000000000
--warmstart-steps 0               | it must be at least 1
--updates-per-step 0              | it must be above 0
--updates-per-step 1e300          | it must be at most 1000
--log-every 0                     | it must be at least 1
--checkpoint-every -1             | it must be at least 0
--keep-checkpoints 0              | it must be at least 1
--evaluate-every 0                | it must be at least 1
--evaluation-episodes 0           | it must be at least 1
--evaluation-episodes 100000000   | it must be at most 10000
--video-every -5                  | it must be at least 0
--video-size 10                   | it must be from 64 to 1920
--video-stride 81                 | it must be from 1 to 80
--video-camera left               | it must be one of corner, corner2
--config none.yaml                | config file none.yaml does not exist
--config smokey                   | there is no preset, and no file, 'smokey'; did you mean smoke?
--config configs/smoke.yaml       | does not exist; --config smoke is the preset
--config true.yml                 | did you mean true.yaml?
--config empty                    | empty is not a file; --config wants a YAML file
--config ''                       | --config is ''; it must be a path
--config                          | --config: expected one argument
--config /dev/zero                | /dev/zero is not a file
--config file                     | must hold lines of the form 'name: value'
--config list.yaml                | must hold lines of the form 'name: value'
--config empty.yaml               | must hold lines of the form 'name: value'
--config alias.yaml               | line 2: aliases (*) are not read; write the value out
--config bomb.yaml                | line 2: aliases (*) are not read
--config binary.yaml              | line 1: tags (!) are not read
--config code.yaml                | line 1: tags (!) are not read
--config date.yaml                | date.yaml: seed is '2020-13-45'; it must be a whole number
--config deep.yaml                | is nested too deeply
--config hex.yaml                 | hex.yaml: width is '0xfff
--config key.yaml                 | line 1: found unhashable key
--config large.yaml               | is larger than 100000 bytes: it is no config file
--config latin.yaml               | is not UTF-8 text: line 2
--config long.yaml                | it must be a whole number
--config method.yaml              | unknown method ['equal']
--config nested.yaml              | nested.yaml: unknown key 'sac'
--config nothing.yaml             | nothing.yaml: width is empty; it must be a whole number
--config nul.yaml                 | is not valid YAML: unacceptable character
--config number.yaml              | number.yaml: unknown key '1'
--config tab.yaml                 | is not valid YAML: line 1
--config text.yaml                | text.yaml: width is 'wide'; it must be a whole number
--config true.yaml                | true.yaml: width is True; it must be a whole number
--config twice.yaml               | line 3: seed is given twice
--config unknown.yaml             | unknown.yaml: unknown key 'widht'; did you mean width?
--config unknown.yaml --config twice.yaml | line 3: seed is given twice
--run-dir ''                      | run_dir is ''; it must be a path
--run-dir file                    | the run's folder file: File exists; choose --run-dir
--run-dir file/x                  | Not a directory; choose --run-dir
--run-dir runs/equal-seed1        | already holds a run; choose another folder, or add --resume
--run-dir agent                   | agent already holds a run; choose another folder
--run-dir foreign                 | foreign already holds a run
--resume                          | --resume needs --run-dir, or the path of a run or a checkpoint
--resume ''                       | resume is ''; it must be a path
--resume nothing                  | nothing does not exist; --resume wants a run or a checkpoint
--resume empty                    | empty holds no checkpoint that a run could go on from
--resume file                     | file holds no checkpoint that a run could go on from
--resume runs/equal-seed1         | holds no checkpoint that a run could go on from
--resume foreign                  | was not written by mtrl_ntk
--resume agent                    | holds an agent only: no run can go on from it
--resume agent --method nope      | unknown method 'nope'
--run-dir agent --resume          | holds an agent only: no run can go on from it
--run-dir foreign --resume        | was not written by mtrl_ntk
"""

EVALUATE = """
                                  | give DIR, the folder of a run or of one of its checkpoints
''                                | DIR is ''; it must be a path
nothing                           | nothing does not exist; give the folder of a run
agent agent                       | unexpected argument 'agent'
agent --run agent                 | give DIR or --run DIR, which are the same, once
agent --pretrained mt10           | or --pretrained, not both
--pretrained mt10 --checkpoint best | or --pretrained, not both
--pretrained mt11                 | there is no pretrained policy 'mt11'; did you mean mt10?
pretrained:mine                   | there is no pretrained policy 'mine'; possible: mt10
agent --checkpoint step-1         | agent/checkpoint has no checkpoint 'step-1'; possible:
agent --checkpoint agent          | agent/checkpoint has no checkpoint 'agent'; possible:
--run                             | --run: expected one argument
--run ''                          | --run is ''; it must be a path
--run nothing                     | nothing does not exist; give the folder of a run
--run file                        | is not a finished checkpoint: it has no manifest.json
--run empty                       | empty is neither a run with checkpoints nor a checkpoint
--run foreign                     | was not written by mtrl_ntk
--checkpoint runs/equal-seed1     | is neither a run with checkpoints nor a checkpoint
--run agent --episodes 0          | evaluation_episodes is 0; it must be at least 1
--run agent --episodes -1         | it must be at least 1
--run agent --episodes 1e12       | it must be at most 10000
--run agent --episodes many       | --episodes is 'many'; it must be a whole number
--run agent --seed -1             | it must be from 0 to 4294967295
--run agent --seed 5              | the seed of training, whose goals are not unseen; choose another
--run agent --goals old           | it must be one of unseen, training
--run agent --goals training --seed 3 | leave it out with --goals training
--run agent --goals training --tasks window-open-v3,window-close-v3,door-open-v3 | leave --goals out
--run agent --tasks reach         | did you mean 'reach-v3'?
--run agent --tasks ''            | --tasks is empty
--run agent --tasks window-open-v3 | the agent was not trained on window-open-v3; give some of its
--run agent --tasks reach-v3,reach-v3 | is given twice
--run agent --benchmark MT10      | the agent was not trained on pick-place-v3
--run agent --benchmark MT5       | it must be one of MT10, MT25, MT50
--run agent --suite tests.own_tasks:make_tasks | the run is of metaworld
--run agent --benchmark MT10 --tasks reach-v3 | give --benchmark or --tasks, not both
--run agent --device cuda         | device cuda is not available here; use --device cpu
--run agent --workers -2          | it must be at least -1
--run agent --workers 10000000    | it must be at most 1024
--run agent --out file            | cannot make the folder file: File exists; choose --out
--run agent --out file/x          | Not a directory; choose --out
--run agent --out runs/equal-seed1 | already holds an evaluation; choose another --out
--run agent --width 3             | unknown option --width
--run agent --video-size 0        | it must be from 64 to 1920
--run agent --video --video-camera up | it must be one of corner, corner2
--run agent --samples             | did you mean --sampled?
--run agent --config unknown.yaml | unknown option --config
"""

SWEEP = """
                                  | no methods; --methods ntkmtl,equal trains these two
equal pcgrad                      | no methods
--methods                         | --methods: expected at least one argument
--methods ''                      | --methods is empty
--methods ,                       | --methods is empty
--methods equal,nope              | unknown method 'nope'
--methods equal --seeds ''        | --seeds is empty
--methods equal --seeds x         | it must be numbers and ranges, such as 1,2,5-8
--methods equal --seeds 5-1       | it must be numbers and ranges
--methods equal --seeds 1-        | it must be numbers and ranges
--methods equal --seeds -3        | it must be numbers and ranges
--methods equal --seeds 1.5       | it must be numbers and ranges
--methods equal --seeds 1-1000000 | it must be at most 1000 at a time
--methods equal --seeds 4294967296 | seed is 4294967296; it must be from 0 to 4294967295
--methods equal --vary            | --vary: expected at least one argument
--methods equal --vary ''         | --vary is empty
--methods equal --vary width      | --vary is 'width'; it must be such as width=128,256
--methods equal --vary =3         | --vary is '=3'; it must be such as width=128,256
--methods equal --vary width=     | --width is ''; it must be a whole number
--methods equal --vary widht=1,2  | unknown option --widht; did you mean --width?
--methods equal --vary width=1,1  | a value is given twice
--methods equal --vary width=1,x  | --width is 'x'; it must be a whole number
--methods equal --vary method=equal,pcgrad | --methods lists the methods of a sweep
--methods equal --vary exponent=1,2 | it is an option of ntkmtl and ntkmtl_sr
--methods equal --method pcgrad   | --methods lists the methods of a sweep
--methods equal --seed 1          | --seeds lists the seeds of a sweep
--methods equal --resume          | a sweep goes on by itself
--methods equal --run-dir x       | --out is the folder of a sweep
--methods equal --jobs -1         | it must be at least 0
--methods equal --jobs 1000000000 | it must be at most 1024
--methods equal --jobs many       | --jobs is 'many'; it must be a whole number
--methods equal --widht 3         | did you mean --width?
--methods equal --width 0         | width is 0; it must be at least 1
--methods equal --config smokey   | did you mean smoke?
--methods equal --config none.yaml | config file none.yaml does not exist
--methods equal --config bomb.yaml | aliases (*) are not read
--methods equal --device cuda     | use --device cpu
--methods equal --out file        | Not a directory; choose another --out
--sweep none.yaml                 | config file none.yaml does not exist
--sweep list.yaml                 | must hold lines of the form 'name: value'
--sweep bomb.yaml                 | aliases (*) are not read
--sweep twice.yaml                | seed is given twice
--sweep sweep-dict.yaml           | unknown method
--sweep sweep-jobs.yaml           | jobs is 'many'; it must be a whole number
--sweep sweep-key.yaml            | unknown option --1
--sweep sweep-seeds.yaml          | seeds is empty
--sweep sweep-self.yaml           | unknown option --sweep
--sweep sweep-value.yaml          | it must be a whole number
--sweep sweep-vary.yaml           | it must be such as width=128,256
--sweep sweep-widht.yaml          | did you mean --width?
"""

REPORT = """
                                  | give either folders of runs, for a report on them, or --kernels
--last 3                          | give either folders of runs
''                                | a DIR is empty; give folders of runs
nothing                           | there is no folder nothing; give folders of runs
file                              | there is no folder file
empty                             | empty holds no run: nowhere in it are config.yaml
agent                             | agent holds no run
runs nothing                      | there is no folder nothing
runs --kernels runs               | give either folders of runs
runs --methods ''                 | --methods is empty
runs --metrics ,                   | --metrics is empty
runs --last 0                     | last is 0; it must be at least 1
runs --last x                     | --last is 'x'; it must be a whole number
runs --resamples 0                | resamples is 0; it must be at least 1
runs --resamples 100000000000     | it must be at most 100000
runs --resample methods           | it must be one of tasks, runs
runs --least-affinity nan         | it must be a finite number
runs --least-affinity 3           | it must be from -1 to 1
runs --out file                   | cannot write to file: File exists; choose another --out
runs --out ''                     | --out is ''; it must be a path
runs --force yes                  | a switch takes no value
runs --seed 3                     | unknown option --seed
--kernels                         | --kernels: expected at least one argument
--kernels ''                      | --kernels is empty
--kernels nothing                 | nothing holds no run: there is no training.csv
--kernels empty                   | empty holds no run
--kernels foreign                 | foreign holds no run
"""


def cases(command: str, table: str) -> list[object]:
    lines = [line.rsplit("|", 1) for line in table.strip("\n").splitlines()]
    return [
        pytest.param(command, shlex.split(argv), said.strip(), id=f"{command} {argv.strip()}")
        for argv, said in lines
    ]


CASES = [
    *cases("train_mt10", TRAIN),
    *cases("evaluate_mt10", EVALUATE),
    *cases("sweep_mt10", SWEEP),
    *cases("report_mt10", REPORT),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is accepted by mistake fails instead of training for hours."""

    def start(*_: object, **__: object) -> None:
        pytest.fail("accepted")

    monkeypatch.setattr(envs.MultiTaskVectorEnv, "__init__", start)
    monkeypatch.setattr(sweep_pool.Pool, "__init__", start)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_there_are_hundreds_of_cases() -> None:
    assert len(CASES) > 250


@pytest.mark.usefixtures("_nothing_starts")
@pytest.mark.parametrize(("command", "argv", "said"), CASES)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_written(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    argv: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setattr(sys, "argv", [command, *argv])
    before = listing(world)
    with pytest.raises(SystemExit) as stop:
        getattr(cli, command)()
    check(command, stop.value.code, *capsys.readouterr(), said)
    assert listing(world) == before


def check(command: str, code: object, output: str, errors: str, said: str) -> None:
    assert (code, output) == (2, "")
    assert errors.startswith(f"{command}: error: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert len(errors) < 1600  # a list of all tasks is the longest


PROCESSES: list[tuple[Callable[[], None], str, str]] = [
    (cli.train_mt10, "--config bomb.yaml", "aliases"),
    (cli.report_mt10, "empty", "holds no run"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "argv", "said"), PROCESSES)
def test_a_mistake_is_one_line_of_a_real_process(
    world: Path, command: Callable[[], None], argv: str, said: str
) -> None:
    name, before = command.__name__, listing(world)
    program = f"from mtrl_ntk.cli import {name}; {name}()"
    done = subprocess.run(
        [sys.executable, "-c", program, *shlex.split(argv)],
        cwd=world,
        capture_output=True,
        text=True,
        check=False,
    )
    check(name, done.returncode, done.stdout, done.stderr, said)
    assert listing(world) == before
