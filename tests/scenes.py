"""An environment of many observations: a picture alone, or as a part of a tree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from rljax import spaces, struct


class SceneState(NamedTuple):
    side: jax.Array  # [] int32
    obs: Any


@struct.dataclass
class Scene(rljax.Env):
    """A bright cell is left or right in a picture; the action must name its side.

    Episodes are one step long and pay 1 for the right side, −1 for the wrong one.
    """

    kind: str = struct.static(default="picture")  # or "tree", or "pair"
    shift: float = 0.0  # of the floating numbers of a tree

    @property
    def observation_space(self):
        return self.of(
            spaces.Box(0, 200, (4, 5, 2), jnp.uint8),
            spaces.Box(-jnp.inf, jnp.inf, (3,)),
            spaces.Discrete(3),
            spaces.MultiDiscrete((2, 3)),
        )

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def of(self, picture, place, mode, many):
        if self.kind == "picture":
            return picture
        if self.kind == "pair":
            return picture, {"mode": mode}
        return {"picture": picture, "place": place, "mode": mode, "many": many}

    def reset(self, key):
        keys = jax.random.split(key)
        most = np.array([4, 4, 3], np.int32)
        row, column, mode = jax.random.randint(keys[0], (3,), 0, most, jnp.int32)
        side = column // 2
        column = column + side  # the third of five columns stays dark
        picture = jnp.zeros((4, 5, 2), jnp.uint8).at[row, column, 0].set(200)
        place = self.shift + jax.random.normal(keys[1], (3,), float)
        obs = self.of(picture, place, mode, jnp.stack([side, mode]))
        return SceneState(side, obs), obs

    def step(self, state, action, key):
        reward = jnp.where(action == state.side, 1.0, -1.0).astype(float)
        end = jnp.ones((), bool)
        return state, rljax.TimeStep(state.obs, reward, end, ~end)
