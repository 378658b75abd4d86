"""What a run might take."""

from mtrl_ntk.experiment.training.costs import Costs

COSTS = Costs(
    random_step_s=0.01,
    step_s=0.02,
    evaluations_s=60,
    start_s=20,
    total_s=3600,
    replay=10**9,
    learner=10**8,
    program=4 * 10**8,
    workers=0,
    threads=3,
    num_workers=0,
    on_gpu=False,
    disk=10**9,
)
SETTINGS = {
    "method": "equal",
    "tasks": ["reach-v3"],
    "horizon": 20,
    "batch_size": 8,
    "width": 16,
    "depth": 1,
    "total_steps": 1_000,
    "warmstart_steps": 100,
    "replay_capacity": 500,
    "evaluate_every": 250,
    "evaluation_episodes": 1,
    "workers": 0,
    "threads": 1,
    "device": "cpu",
    "keep_checkpoints": 2,
}
