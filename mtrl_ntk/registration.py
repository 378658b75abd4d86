"""Registers what ``gymnasium.make_vec`` calls the tasks of this package and those of users.

The ids are ``mtrl_ntk/MT10-v0``, ``MT25``, ``MT50``, and ``mtrl_ntk/Tasks-v0`` of a suite. The
package imports this module where Gymnasium has been imported before it.
"""

from __future__ import annotations

import gymnasium

_ENTRY_POINT = "mtrl_ntk.rl.envs.vector_env:make_vector_env"


for _benchmark in ("MT10", "MT25", "MT50"):
    gymnasium.register(
        f"mtrl_ntk/{_benchmark}-v0",
        vector_entry_point=_ENTRY_POINT,
        kwargs={"benchmark": _benchmark},
    )
gymnasium.register("mtrl_ntk/Tasks-v0", vector_entry_point=_ENTRY_POINT)
