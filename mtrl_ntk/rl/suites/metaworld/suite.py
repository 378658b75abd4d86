"""Meta-World V3 as a suite."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3, MT25_V3, MT50_V3

from mtrl_ntk.rl.suites.metaworld.features import CENTRED, RELATIVE, UNMAGNIFIED
from mtrl_ntk.rl.suites.metaworld.lean_env import is_proven
from mtrl_ntk.rl.suites.metaworld.simulation import (
    NUM_GOALS,
    RewardVersion,
    SawyerSimulation,
    make_sim,
)
from mtrl_ntk.rl.suites.suite import EpisodeRules, Suite

_STEP_COSTS_US = {
    "reach-v3": 112,
    "push-v3": 203,
    "pick-place-v3": 193,
    "door-open-v3": 184,
    "drawer-open-v3": 122,
    "drawer-close-v3": 121,
    "button-press-topdown-v3": 146,
    "peg-insert-side-v3": 195,
    "window-open-v3": 118,
    "window-close-v3": 134,
}
"""CPU microseconds per lean step, measured on one core."""


def _simulate(task: str, rules: EpisodeRules) -> SawyerSimulation:
    return SawyerSimulation(make_sim(task, rules.reward_version, lean=rules.lean))


def _settle(rules: EpisodeRules) -> EpisodeRules:
    """Gives up lean simulations, with a warning, where they are not proven."""
    return rules if not rules.lean or is_proven() else replace(rules, lean=False)


METAWORLD = Suite(
    name="metaworld",
    title="Meta-World V3",
    observation_dim=39,
    action_dim=4,
    tasks=tuple(ALL_V3_ENVIRONMENTS),
    benchmarks={"MT10": tuple(MT10_V3), "MT25": tuple(MT25_V3), "MT50": tuple(MT50_V3)},
    goals_per_task=NUM_GOALS,
    max_horizon=500,  # after which the stock environments refuse to go on
    simulate=_simulate,
    settle=_settle,
    reward_versions=get_args(RewardVersion),
    packages=("metaworld", "mujoco"),
    features={"relative": RELATIVE, "unmagnified": UNMAGNIFIED, "centred": CENTRED},
    step_costs=_STEP_COSTS_US,
    steps_per_second=80.0,
    cameras=(
        "corner",
        "corner2",
        "corner3",
        "corner4",
        "topview",
        "behindGripper",
        "gripperPOV",
    ),
    defaults={"reward_version": "v2", "video_camera": "corner4"},
    needs_opengl=True,
)
