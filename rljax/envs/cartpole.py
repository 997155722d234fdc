"""The cart-pole problem, with the dynamics and limits of Gymnasium's CartPole-v1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env, TimeStep


class CartPoleState(NamedTuple):
    """Position and motion of cart and pole; each field is [] floating."""

    x: jax.Array
    """Position of the cart, m."""
    x_dot: jax.Array
    """Velocity of the cart, m/s."""
    theta: jax.Array
    """Angle of the pole from the vertical, rad."""
    theta_dot: jax.Array
    """Angular velocity of the pole, rad/s."""


@struct.dataclass
class CartPole(Env):
    """Keep a pole upright on a cart by pushing it left (0) or right (1).

    The observation is [x, x_dot, theta, theta_dot]. The reward is 1 for every step,
    including the one that ends the episode. The episode terminates when |x| or |theta|
    exceeds its threshold. There is no time limit: wrap the environment in `TimeLimit`,
    or use `rljax.make("CartPole-v1")`, which truncates episodes at 500 steps. Every
    field is a leaf, so you can vmap over gravity or the pole's length, for example.

    Source: Barto, Sutton and Anderson (1983); the equations of Florian (2007),
    Correct equations for the dynamics of the cart-pole system, without friction.
    """

    gravity: float = 9.8
    """Acceleration of free fall, m/s²."""
    mass_cart: float = 1.0
    """Mass of the cart, kg."""
    mass_pole: float = 0.1
    """Mass of the pole, kg."""
    half_length: float = 0.5
    """Half of the pole's length, m."""
    force: float = 10.0
    """Magnitude of the push, N."""
    time_step: float = 0.02
    """Time between two decisions, s."""
    x_threshold: float = 2.4
    """Position beyond which the episode terminates, m."""
    theta_threshold: float = 12 * math.pi / 180
    """Angle beyond which the episode terminates, rad."""

    def __post_init__(self):
        checks.reals(self, "gravity", "force")
        checks.reals(
            self,
            "mass_cart",
            "mass_pole",
            "half_length",
            "time_step",
            "x_threshold",
            "theta_threshold",
            minimum=0.0,
            open_minimum=True,
        )

    @property
    def observation_space(self) -> spaces.Box:
        """Twice the thresholds for position and angle; velocities are unbounded."""
        x, theta = 2.0 * self.x_threshold, 2.0 * self.theta_threshold
        high = spaces.stacked(x, np.inf, theta, np.inf)
        return spaces.Box(-high, high, (4,))

    @property
    def action_space(self) -> spaces.Discrete:
        """0 pushes left, 1 right."""
        return spaces.Discrete(2)

    def reset(self, key: jax.Array) -> tuple[CartPoleState, jax.Array]:
        """Draws each state variable from U[−0.05, 0.05)."""
        checks.scalars(self)
        draws = jax.random.uniform(
            random.unrolled(key), (4,), minval=-0.05, maxval=0.05
        )
        # State and observation both hold these numbers; without `once`, XLA would draw
        # them for each of the two. It is applied to one number at a time: an array of
        # all four would be written to memory and read again even where the observation
        # is not used.
        state = CartPoleState(*map(random.once, draws))
        return state, jnp.stack(state)

    def step(
        self, state: CartPoleState, action: jax.Array, key: jax.Array
    ) -> tuple[CartPoleState, TimeStep]:
        """Pushes the cart for `time_step`; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(self.action_space, action, "CartPole's action")
        force = jnp.where(action == 1, self.force, -self.force)
        x_acc, theta_acc = accelerations(self, state, force)
        # Explicit Euler: positions move with the velocities before the push.
        state = CartPoleState(
            x=state.x + self.time_step * state.x_dot,
            x_dot=state.x_dot + self.time_step * x_acc,
            theta=state.theta + self.time_step * state.theta_dot,
            theta_dot=state.theta_dot + self.time_step * theta_acc,
        )
        terminated = (jnp.abs(state.x) > self.x_threshold) | (
            jnp.abs(state.theta) > self.theta_threshold
        )
        return state, TimeStep(
            obs=jnp.stack(state),
            reward=jnp.ones_like(state.x),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def render(self, state: CartPoleState, *, size: int = 400) -> np.ndarray:
        """Cart, pole and track, [size / 2, size, 3] uint8.

        The two posts are the thresholds of x, the pale sector those of the angle. A
        pole that has fallen, or whose cart has left the track, is dark red.

        Raises:
          TypeError, ValueError: `state` is traced, batched, not finite or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, CartPoleState, "env.reset(key)[0]")
        names = ("x_threshold", "theta_threshold", "half_length")
        return pictures.cart_pole(
            pictures.number("state.x", state.x),
            pictures.number("state.theta", state.theta),
            **{n: pictures.number(f"CartPole.{n}", getattr(self, n)) for n in names},
            size=size,
        )


def accelerations(
    env: CartPole, state: CartPoleState, force: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Accelerations of the cart (m/s²) and of the pole's angle (rad/s²).

        u   = (F + m l θ̇² sin θ) / M,   M = m_cart + m
        θ̈   = (g sin θ − u cos θ) / (l (4/3 − m cos² θ / M))
        ẍ   = u − m l θ̈ cos θ / M

    with m the pole's mass and l half of its length.
    """
    total_mass = env.mass_cart + env.mass_pole
    mass_length = env.mass_pole * env.half_length
    sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
    push = (force + mass_length * jnp.square(state.theta_dot) * sin) / total_mass
    theta_acc = (env.gravity * sin - push * cos) / (
        env.half_length * (4.0 / 3.0 - env.mass_pole * jnp.square(cos) / total_mass)
    )
    x_acc = push - mass_length * theta_acc * cos / total_mass
    return x_acc, theta_acc
