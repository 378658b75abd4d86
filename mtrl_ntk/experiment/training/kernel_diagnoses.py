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
from mtrl_ntk.experiment.training.run_statistics import RunStatistics
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC


class KernelDiagnoses:
    """Keeps the extended NTK of critic and actor, as often as configured.

    Each diagnosis has transitions and a random stream of its own, so that training goes on as if
    there were none, and repeats itself whatever the other diagnoses.

    Args:
        config: The run's configuration.
        agent: Whose kernels.
        replay: Where the transitions come from.
        task_names: The tasks.
        statistics: Counts the updates, and not the time of a diagnosis.
        logger: Where diagnoses go.
    """

    def __init__(
        self,
        config: RunConfig,
        agent: MultiTaskSAC,
        replay: MultiTaskReplayBuffer,
        task_names: tuple[str, ...],
        statistics: RunStatistics,
        logger: RunLogger,
    ) -> None:
        self._config, self._agent, self._replay = config, agent, replay
        self._task_names, self._statistics, self._logger = task_names, statistics, logger

    def diagnose_if_due(self) -> None:
        """Diagnoses the kernels after an update that it is due after."""
        every = self._config.loop.kernel_every
        if every and self._statistics.clock.updates % every == 0:
            with self._statistics.rates.paused():
                self._diagnose()

    def _diagnose(self) -> None:
        config, logger, counters = self._config, self._logger, self._statistics.clock.counters
        stream = stream_seed(config.seed, f"kernels at update {counters.updates}")
        generator = torch.Generator(self._agent.device).manual_seed(stream)
        batch = self._replay.sample(config.sac.batch_size, generator)
        noise = self._agent.draw_noise(generator)
        for part in PARTS:
            jacobian = self._agent.jacobian(part, batch, noise, config.loop.kernel_minibatches)
            diagnosis = diagnose(jacobian, self._task_names, counters)
            save = partial(save_diagnosis, logger.run_dir, part, diagnosis)
            logger.outages.attempt(
                str(logger.run_dir / KERNELS), save, "this diagnosis is left out"
            )
            images = {f"kernels/{part}/affinity": affinity_image(part, diagnosis)}
            logger.log_diagnosis(counters, diagnosis.scalars(part), images)
