"""A pendulum to be swung up, with the dynamics of Gymnasium's Pendulum-v1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env, TimeStep


class PendulumState(NamedTuple):
    """Position and motion of the pendulum; each field is [] floating."""

    theta: jax.Array
    """Angle from the upright position, rad; it counts whole turns."""
    theta_dot: jax.Array
    """Angular velocity, rad/s."""


@struct.dataclass
class Pendulum(Env):
    """Swing a rod up and hold it there, with a torque too weak to lift it at once.

        θ̈ = (3g / 2l) sin θ + (3 / m l²) u
        r = −(θ² + 0.1 θ̇² + 0.001 u²),   θ in [−π, π)

    The action is the torque u, [1] floating within ±max_torque. The reward is that of
    the state before the step. The observation is [cos θ, sin θ, θ̇]. Episodes never
    terminate: wrap the environment in `TimeLimit`, or use `rljax.make("Pendulum-v1")`,
    which truncates them at 200 steps.

    Source: Gymnasium's Pendulum-v1; a rod turned about its end has the moment m l²/3.
    """

    gravity: float = 10.0
    """Acceleration of free fall, m/s²."""
    mass: float = 1.0
    """Mass of the rod, kg."""
    length: float = 1.0
    """Length of the rod, m."""
    max_torque: float = 2.0
    """Largest torque, N·m."""
    max_speed: float = 8.0
    """Largest angular velocity, rad/s: it is clipped there."""
    time_step: float = 0.05
    """Time between two decisions, s."""

    def __post_init__(self):
        checks.reals(self, "gravity")
        checks.reals(
            self,
            "mass",
            "length",
            "max_torque",
            "max_speed",
            "time_step",
            minimum=0.0,
            open_minimum=True,
        )

    @property
    def observation_space(self) -> spaces.Box:
        """cos θ, sin θ, and the angular velocity."""
        high = spaces.stacked(1, 1, self.max_speed)
        return spaces.Box(-high, high, (3,))

    @property
    def action_space(self) -> spaces.Box:
        """The torque."""
        return spaces.Box(-self.max_torque, self.max_torque, (1,))

    def reset(self, key: jax.Array) -> tuple[PendulumState, jax.Array]:
        """Draws θ from U[−π, π) and θ̇ from U[−1, 1)."""
        checks.scalars(self)
        draws = jax.random.uniform(random.unrolled(key), (2,), minval=-1.0, maxval=1.0)
        theta, theta_dot = map(random.once, draws)
        state = PendulumState(math.pi * theta, theta_dot)
        return state, _observed(state)

    def step(
        self, state: PendulumState, action: jax.Array, key: jax.Array
    ) -> tuple[PendulumState, TimeStep]:
        """Turns the rod for `time_step`; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(self.action_space, action, "Pendulum's action")
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        angle = jnp.mod(state.theta + math.pi, 2 * math.pi) - math.pi
        cost = (
            jnp.square(angle)
            + 0.1 * jnp.square(state.theta_dot)
            + 0.001 * jnp.square(torque)
        )
        theta_acc = 3 * self.gravity / (2 * self.length) * jnp.sin(state.theta)
        theta_acc += 3 / (self.mass * self.length**2) * torque
        theta_dot = state.theta_dot + self.time_step * theta_acc
        theta_dot = jnp.clip(theta_dot, -self.max_speed, self.max_speed)
        # Semi-implicit Euler: the angle moves with the velocity after the torque.
        state = PendulumState(state.theta + self.time_step * theta_dot, theta_dot)
        never = jnp.zeros_like(state.theta, bool)
        return state, TimeStep(_observed(state), -cost, never, never)

    def render(self, state: PendulumState, *, size: int = 400) -> np.ndarray:
        """The rod, [size, size, 3] uint8; the mark above is where it has to stand.

        Raises:
          TypeError, ValueError: `state` is traced, batched, not finite or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, PendulumState, "env.reset(key)[0]")
        return pictures.pendulum(pictures.number("state.theta", state.theta), size=size)


def _observed(state: PendulumState) -> jax.Array:
    return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot])
