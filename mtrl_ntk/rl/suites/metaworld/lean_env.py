"""Meta-World's environments without the time that their Python wastes, bit for bit the same.

Of a stock step, MuJoCo computes for about a third. The rest is Python: a loop over all contacts, a
general orthogonalisation of matrices that are rotations already, look-ups by name, and NumPy calls
on three numbers. A lean environment is a subclass of the stock one:

- ``LeanSawyerEnv`` stands between a task's class and its base class, so that what tasks define
  themselves goes on to hold, and what they inherit is lean;
- the files of a task are read once for all its copies, which share MuJoCo's model;
- what tasks define themselves is the library's own code, run with lean helpers in the place of the
  ``Rotation``, ``tolerance`` and ``norm`` that it names.

Each shortcut makes the same roundings in the same order, on numbers of the same types; what is not
of the usual kind is left to the library. A different version of the library or of MuJoCo is not
touched at all.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl_ntk.rl.suites.metaworld.lean_numerics import norm, with_lean_numerics
from mtrl_ntk.rl.suites.metaworld.shared_model import borrow

PROVEN_VERSIONS = {"metaworld": "3.1.1", "mujoco": "3.3.0"}
"""What the lean environments were compared with, for all tasks."""

_MOCAP_QUATERNION = np.array([1.0, 0.0, 1.0, 0.0])
"""The library's, of a hand that points down."""
StockResults = tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]
"""Observation, reward, terminated, truncated and info, as the library returns them."""


@cache
def is_proven() -> bool:
    """Whether the installed library is the proven one; warns, once, when it is not."""
    installed = {name: _installed_version(name) for name in PROVEN_VERSIONS}
    if installed == PROVEN_VERSIONS:
        return True
    warnings.warn(
        f"lean environments are proven for {_listed(PROVEN_VERSIONS)}; installed are "
        f"{_listed(installed)}, so the stock environments are used",
        stacklevel=2,
    )
    return False


def _installed_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(unknown)"


def _listed(versions: dict[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())


@cache
def lean_class(task: str) -> type[SawyerXYZEnv]:
    """The lean subclass of a task's stock class, under the stock one's name."""
    stock = ALL_V3_ENVIRONMENTS[task]
    inherited = {"_gripper_caging_reward": SawyerXYZEnv._gripper_caging_reward}
    methods = {
        name: with_lean_numerics(attribute)
        for name, attribute in (inherited | dict(vars(stock))).items()
        if isinstance(attribute, FunctionType)
    }
    return type(stock.__name__, (stock, LeanSawyerEnv), methods)


class LeanSawyerEnv(SawyerXYZEnv):
    """What the tasks inherit from their base class, lean."""

    _is_first_pass = False

    def _initialize_simulation(self) -> tuple[Any, Any]:
        load = super()._initialize_simulation
        self._loan = borrow((self.fullpath, self.width, self.height), lambda: load()[0])
        model = self._loan.model
        data = mujoco.MjData(model)
        # Views of memory that lives as long as the data.
        self._hand_position: NDArray[np.float64] = data.body("hand").xpos
        self._claw_positions = data.body("rightclaw").xpos, data.body("leftclaw").xpos
        self._finger_positions = (
            data.site("rightEndEffector").xpos,
            data.site("leftEndEffector").xpos,
        )
        self._body_positions: dict[str, NDArray[np.float64]] = {}
        self._site_positions: dict[str, NDArray[np.float64]] = {}
        self._pad_ids = data.geom("leftpad_geom").id, data.geom("rightpad_geom").id
        (self._mocap_position,) = data.mocap_pos
        (self._mocap_quaternion,) = data.mocap_quat
        self._control = data.ctrl
        return model, data

    @property
    def model(self) -> mujoco.MjModel:
        """The task's model, with this environment's positions until another one asks for it."""
        return self._loan.model

    @model.setter
    def model(self, model: mujoco.MjModel) -> None:
        # The library keeps what it has just got from here.
        assert model is self._loan.model

    def step(self, action: NDArray[np.float32]) -> StockResults:
        """See the base class.

        Not done is what leaves no trace: forces that nothing reads, and setting the positions of
        sites, which MuJoCo computes anew.
        """
        if not self._may_step(action):
            left_to_the_library: StockResults = super().step(action)
            return left_to_the_library
        self.set_xyz_action(action[:3])
        grip = action[3]
        self._control[0] = grip
        self._control[1] = -grip
        model = self.model
        mujoco.mj_step(model, self.data, nstep=self.frame_skip)
        self.curr_path_length += 1
        mujoco.mj_forward(model, self.data)
        space: Any = self.sawyer_observation_space
        observation = self._get_obs()
        observation.clip(space.low, space.high, out=observation)
        self._last_stable_obs = observation
        reward, info = self.evaluate_state(observation, action)
        is_last = self.curr_path_length == self.max_path_length
        # A copy: rewards may keep views.
        return observation.copy(), reward, False, is_last, info

    def _may_step(self, action: NDArray[np.float32]) -> bool:
        return (
            self._set_task_called
            and len(action) == 4
            and self.curr_path_length < self.max_path_length
            and not self._did_see_sim_exception
        )

    def set_xyz_action(self, action: NDArray[Any]) -> None:
        """See the base class."""
        position = self._mocap_position
        position += np.asarray(action).clip(-1, 1) * self.action_scale
        position.clip(self.mocap_low, self.mocap_high, out=position)
        self._mocap_quaternion[:] = _MOCAP_QUATERNION

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """See the base class, which resets twice and wipes the simulation in between."""
        self._is_first_pass = True
        return super().reset(seed, options)

    def _reset_hand(self, steps: int = 50) -> None:
        if self._is_first_pass:
            # Of the first pass only the positions that it gives to fixed bodies last. They do not
            # depend on the hand, so it is not moved.
            self._is_first_pass = False
            mujoco.mj_resetData(self.model, self.data)
            mujoco.mj_forward(self.model, self.data)
        else:
            self._mocap_position[:] = self.hand_init_pos
            self._mocap_quaternion[:] = _MOCAP_QUATERNION
            self._control[:] = -1.0, 1.0
            mujoco.mj_step(self.model, self.data, nstep=steps * self.frame_skip)
        self.init_tcp = self.tcp_center

    @property
    def tcp_center(self) -> NDArray[np.float64]:
        """See the base class."""
        right, left = self._finger_positions
        center: NDArray[np.float64] = (right + left) / 2.0
        return center

    def get_endeff_pos(self) -> NDArray[np.float64]:
        """See the base class."""
        return self._hand_position

    def get_body_com(self, body_name: str) -> NDArray[np.float64]:
        """See the base class."""
        if body_name not in self._body_positions:
            self._body_positions[body_name] = self.data.body(body_name).xpos
        return self._body_positions[body_name]

    def _get_site_pos(self, site_name: str) -> NDArray[np.float64]:
        if site_name not in self._site_positions:
            self._site_positions[site_name] = self.data.site(site_name).xpos
        return self._site_positions[site_name].copy()

    def touching_object(self, object_geom_id: int) -> bool:
        """See the base class."""
        if not self.data.ncon:
            return False
        contacts = self.data.contact
        pairs = contacts.geom.tolist()
        touching = [index for index, pair in enumerate(pairs) if object_geom_id in pair]
        if not touching:
            return False
        forces, addresses = self.data.efc_force, contacts.efc_address
        left, right = (
            sum(forces[addresses[index]] for index in touching if pad in pairs[index])
            for pad in self._pad_ids
        )
        touches_both: bool = left > 0 and right > 0
        return touches_both

    def _get_curr_obs_combined_no_goal(self) -> NDArray[np.float64]:
        right, left = self._claw_positions
        positions, quaternions = self._get_pos_objects(), self._get_quat_objects()
        objects = len(positions) // 3
        if len(positions) != 3 * objects or len(quaternions) != 4 * objects:
            return super()._get_curr_obs_combined_no_goal()
        observation = np.zeros(18)
        observation[:3] = self._hand_position
        observation[3] = min(max(norm(right - left) / 0.1, 0.0), 1.0)
        for index in range(objects):
            start = 4 + 7 * index
            observation[start : start + 3] = positions[3 * index : 3 * index + 3]
            observation[start + 3 : start + 7] = quaternions[4 * index : 4 * index + 4]
        return observation

    def _get_obs(self) -> NDArray[np.float64]:
        current = self._get_curr_obs_combined_no_goal()
        observation = np.empty(39)
        observation[:18] = current
        observation[18:36] = self._prev_obs
        observation[36:] = 0.0 if self._partially_observable else self._get_pos_goal()
        self._prev_obs = current
        return observation
