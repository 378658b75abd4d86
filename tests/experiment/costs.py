"""What a run might take."""

from mtrl_ntk.experiment.training.costs import Costs

COSTS = Costs(
    random_step_s=0.01,
    step_s=0.02,
    evaluations_s=60,
    total_s=3600,
    replay=10**9,
    learner=10**8,
    program=4 * 10**8,
    workers=0,
    num_workers=0,
    on_gpu=False,
    disk=10**9,
)
