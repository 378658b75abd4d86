"""Diagnoses of the extended NTK while a run goes on."""

from __future__ import annotations

from functools import partial

import torch

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.devices import stream_seed
from mtrl_ntk.experiment.files.layout import KERNELS
from mtrl_ntk.experiment.kernels.diagnosis import PARTS, diagnose, save_diagnosis
from mtrl_ntk.experiment.kernels.figures import affinity_image
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.types import Counters
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC


def diagnose_kernels(
    config: RunConfig,
    agent: MultiTaskSAC,
    replay: MultiTaskReplayBuffer,
    task_names: tuple[str, ...],
    counters: Counters,
    logger: RunLogger,
) -> None:
    """Keeps the extended NTK of critic and actor on transitions of their own.

    Each diagnosis has a random stream of its own, so that training goes on as if there were none,
    and repeats itself whatever the other diagnoses.
    """
    stream = stream_seed(config.seed, f"kernels at update {counters.updates}")
    generator = torch.Generator(agent.device).manual_seed(stream)
    batch = replay.sample(config.sac.batch_size, generator)
    noise = agent.draw_noise(generator)
    for part in PARTS:
        jacobian = agent.jacobian(part, batch, noise, config.loop.kernel_minibatches)
        diagnosis = diagnose(jacobian, task_names, counters)
        save = partial(save_diagnosis, logger.run_dir, part, diagnosis)
        logger.outages.attempt(str(logger.run_dir / KERNELS), save, "this diagnosis is left out")
        images = {f"kernels/{part}/affinity": affinity_image(part, diagnosis)}
        logger.log_diagnosis(counters, diagnosis.scalars(part), images)
