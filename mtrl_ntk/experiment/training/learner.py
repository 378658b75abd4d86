"""One update of a run: transitions drawn, learnt from, and what happened summed up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtrl_ntk.balancing import Weighting
from mtrl_ntk.balancing.methods import is_own
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.rl.cuda_graph import CudaRecorder, Graphed, Recorder
from mtrl_ntk.rl.host_graph import HostRecorder
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC, Noise

Learn = Callable[[Tensor, Noise], tuple[str, ...]]


class Learner:
    """Lets an agent learn from its replay memory, with its metrics summed on the device.

    The first update of each interval of the log is diagnosed and runs operation by operation. All
    others are the same operations on the same memory, and are replayed from one recording if there
    is a recorder: drawing, gathering, learning and summing, without the host.

    Args:
        agent: Who learns.
        replay: What from.
        metrics: Sums up what happened.
        recorder: Records the update; None runs it operation by operation.
        compiled: Compile the update.
    """

    def __init__(
        self,
        agent: MultiTaskSAC,
        replay: MultiTaskReplayBuffer,
        metrics: MetricMeans,
        *,
        recorder: Recorder | None = None,
        compiled: bool = False,
    ) -> None:
        self.agent, self.replay, self.metrics = agent, replay, metrics
        self._learn: Learn = compile_whole(self._learn_from) if compiled else self._learn_from
        self._names: tuple[str, ...] = ()
        self._run: Callable[[], None] = self._draw_and_learn
        if recorder is not None:
            streams = (agent.generator, replay.generator)
            self._run = Graphed(self._draw_and_learn, streams, recorder)

    def update(self) -> None:
        """Takes one update, without waiting for the device."""
        if self.metrics.empty:
            batch = self.replay.sample(self.agent.config.batch_size)
            self.metrics.add(self.agent.update(batch, diagnose=True))
            return
        self._run()
        self.metrics.count(self._names)

    def _draw_and_learn(self) -> None:
        # Drawn outside of what is compiled: compilers know no random streams but the global one.
        uniform = self.replay.draw(self.agent.config.batch_size)
        self._names = self._learn(uniform, self.agent.draw_noise())

    def _learn_from(self, uniform: Tensor, noise: Noise) -> tuple[str, ...]:
        """Learns from the transitions that random numbers stand for; returns the metrics' names."""
        metrics = self.agent.update(self.replay.gather(uniform), noise)
        self.metrics.accumulate(metrics)
        return tuple(metrics)


def compile_whole(learn: Learn, backend: str | Callable[..., object] = "inductor") -> Learn:
    """Compiles an update as one graph; that there can be one is what tests check on the CPU.

    Args:
        learn: What to compile.
        backend: The compiler.

    Raises:
        UserError: When the update is first run, if it cannot be compiled here.
    """
    torch._dynamo.config.trace_autograd_ops = True
    compiled: Learn = torch.compile(learn, backend=backend, fullgraph=True, dynamic=False)

    def run(uniform: Tensor, noise: Noise) -> tuple[str, ...]:
        try:
            return compiled(uniform, noise)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the update cannot be compiled; use --no-compile ({reason})"
            ) from error

    return run


def recorder_for(
    device: torch.device,
    method: type[Weighting],
    *,
    cuda_graph: bool = True,
    compiled: bool = False,
) -> Recorder | None:
    """What records updates on a device.

    Args:
        device: Where the agent learns.
        method: The balancing method. What others have written may look at a counter of its own
            every hundredth time: on the CPU, where nobody asks for a graph, it runs as it is.
        cuda_graph: Whether CUDA is to have a graph.
        compiled: Whether updates are compiled, which on the CPU leaves nothing to record.
    """
    if device.type == "cuda":
        return CudaRecorder() if cuda_graph else None
    return HostRecorder() if device.type == "cpu" and is_own(method) and not compiled else None
