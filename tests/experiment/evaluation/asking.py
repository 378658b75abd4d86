"""What tests ask of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtrl_ntk.experiment.agents import Trained
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.evaluation.plan import Plan, make_plan


def asked(**changes: Any) -> EvaluationOptions:  # noqa: ANN401 - fields of many types
    changes.setdefault("run", Path("run"))
    return EvaluationOptions(device="cpu", workers=0, **changes)


def plan_of(trained: Trained, **changes: Any) -> Plan:  # noqa: ANN401 - fields of many types
    return make_plan(asked(**changes), trained.config, trained.task_names)
