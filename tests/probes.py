"""Probe environments: each isolates one faculty, so a failure names its cause.

After an idea of Andy Jones, Debugging RL, Without the Agonizing Pain (2021).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import rljax
from rljax import spaces, struct


class ProbeState(NamedTuple):
    obs: jax.Array  # [1]
    time: jax.Array  # []


def start(obs):
    obs = jnp.reshape(jnp.asarray(obs, float), (1,))
    return ProbeState(obs, jnp.zeros((), jnp.int32)), obs


def time_step(obs, reward, terminated):
    return rljax.TimeStep(
        obs=jnp.reshape(jnp.asarray(obs, float), (1,)),
        reward=jnp.asarray(reward, float),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(False),
    )


class Probe:
    num_actions = 1

    @property
    def observation_space(self):
        return spaces.Box(-1.0, 1.0, (1,))

    @property
    def action_space(self):
        return spaces.Discrete(self.num_actions)


@struct.dataclass
class OneStep(Probe):
    """Reward 1, end: the value of the only observation is 1."""

    def reset(self, key):
        return start(0.0)

    def step(self, state, action, key):
        return state, time_step(0.0, 1.0, True)


@struct.dataclass
class TwoSteps(Probe):
    """Observation 0, then 1, then reward 1: V(0) = γ and V(1) = 1."""

    def reset(self, key):
        return start(0.0)

    def step(self, state, action, key):
        last = state.time == 1
        state = ProbeState(jnp.ones(1), state.time + 1)
        return state, time_step(1.0, last, last)


@struct.dataclass
class ObsDependent(Probe):
    """Observation ±1 at random, reward the same: V(obs) = obs."""

    def reset(self, key):
        return start(jax.random.rademacher(key, ()))

    def step(self, state, action, key):
        return state, time_step(0.0, state.obs[0], True)


@struct.dataclass
class ActionDependent(Probe):
    """Action 1 is worth 1, action 0 is worth −1."""

    num_actions = 2

    def reset(self, key):
        return start(0.0)

    def step(self, state, action, key):
        return state, time_step(0.0, jnp.where(action == 1, 1.0, -1.0), True)


@struct.dataclass
class ObsActionDependent(Probe):
    """Observation ±1; the action that goes with its sign is worth 1, the other −1."""

    num_actions = 2

    def reset(self, key):
        return start(jax.random.rademacher(key, ()))

    def step(self, state, action, key):
        right = (action == 1) == (state.obs[0] > 0)
        return state, time_step(0.0, jnp.where(right, 1.0, -1.0), True)


@struct.dataclass
class DelayedReward(Probe):
    """The first of two actions decides the reward ±1 of the second step."""

    num_actions = 2

    def reset(self, key):
        return start(0.0)

    def step(self, state, action, key):
        last = state.time == 1
        chosen = jnp.where(action == 1, 1.0, -1.0)
        # The observation after the first step tells which action it was.
        state_after = ProbeState(jnp.reshape(chosen, (1,)), state.time + 1)
        reward = jnp.where(last, state.obs[0], 0.0)
        return state_after, time_step(chosen, reward, last)


@struct.dataclass
class Endless(Probe):
    """Reward 1 for ever: under a time limit, the value is still 1 / (1 − γ)."""

    num_actions = 2

    def reset(self, key):
        return start(1.0)

    def step(self, state, action, key):
        return state, time_step(1.0, 1.0, False)
