"""The acrobot of two links, with the dynamics of Gymnasium's Acrobot-v1."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env, TimeStep


class AcrobotState(NamedTuple):
    """Position and motion of the two links; each field is [] floating."""

    theta_1: jax.Array
    """Angle of the first link from hanging straight down, rad, in [−π, π]."""
    theta_2: jax.Array
    """Angle of the second link from the line of the first, rad, in [−π, π]."""
    theta_dot_1: jax.Array
    """Angular velocity of the first link, rad/s."""
    theta_dot_2: jax.Array
    """Change of theta_2, rad/s."""


@struct.dataclass
class Acrobot(Env):
    """Swing the end of two links up above a height, by a motor in the joint between.

    The first link hangs from a fixed pivot, the second from the end of the first. The
    action a is 0, 1 or 2, for a torque of (a − 1) · max_torque on the second link. The
    reward is −1 for every step but the last one, which earns 0. The episode terminates
    where the end is above the goal:

        −l₁ cos θ₁ − l₂ cos(θ₁ + θ₂) > goal_height

    The observation is [cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂]. A step solves the
    equations of motion (see `accelerations`) by one step of the classical Runge-Kutta
    method of order four, brings the angles back to [−π, π] and clips the velocities.
    There is no time limit: wrap the environment in `TimeLimit`, or use
    `rljax.make("Acrobot-v1")`, which truncates episodes at 500 steps. Every field but
    `dynamics` is a leaf, so you can vmap over masses or lengths, for example.

    Raises:
      TypeError, ValueError: a field is not a finite number or out of its range, or
        `dynamics` is neither of the two.

    Source: Sutton (1996), Generalization in reinforcement learning: successful examples
    using sparse coarse coding; Sutton and Barto (1998), section 11.3.
    """

    gravity: float = 9.8
    """Acceleration of free fall g, m/s²."""
    mass_1: float = 1.0
    """Mass of the first link m₁, kg."""
    mass_2: float = 1.0
    """Mass of the second link m₂, kg."""
    length_1: float = 1.0
    """Length of the first link l₁, m."""
    length_2: float = 1.0
    """Length of the second link l₂, m; it matters for the goal alone."""
    center_1: float = 0.5
    """Distance of the first link's centre of mass from the pivot c₁, m."""
    center_2: float = 0.5
    """Distance of the second link's centre of mass from the joint c₂, m."""
    inertia_1: float = 1.0
    """Moment of inertia of the first link about its centre of mass I₁, kg·m²."""
    inertia_2: float = 1.0
    """Moment of inertia of the second link about its centre of mass I₂, kg·m²."""
    max_torque: float = 1.0
    """Torque of the actions 0 and 2, N·m."""
    torque_noise: float | None = None
    """Half the width of a uniform noise about the torque, N·m; None: no noise."""
    max_speed_1: float = 4 * math.pi
    """Largest angular velocity of the first link, rad/s: it is clipped there."""
    max_speed_2: float = 9 * math.pi
    """Largest change of theta_2, rad/s: it is clipped there."""
    goal_height: float = 1.0
    """Height above the pivot that the end has to exceed, m."""
    time_step: float = 0.2
    """Time between two decisions, s."""
    dynamics: str = struct.static(default="book")
    """"book", or "nips" for the equations as Sutton (1996) printed them, which lack the
    term m₂ l₁ c₂ θ̇₁² sin θ₂; the experiments there had it (Gymnasium's docs)."""

    def __post_init__(self):
        checks.reals(self, "gravity", "max_torque", "goal_height")
        checks.reals(
            self,
            "mass_1",
            "mass_2",
            "length_1",
            "length_2",
            "center_1",
            "center_2",
            "max_speed_1",
            "max_speed_2",
            "time_step",
            minimum=0.0,
            open_minimum=True,
        )
        checks.reals(self, "inertia_1", "inertia_2", minimum=0.0)
        checks.reals(self, "torque_noise", minimum=0.0, optional=True)
        checks.choice(self, "dynamics", ("book", "nips"))

    @property
    def observation_space(self) -> spaces.Box:
        """Cosine and sine of each angle, and the two velocities."""
        high = spaces.stacked(1, 1, 1, 1, self.max_speed_1, self.max_speed_2)
        return spaces.Box(-high, high, (6,))

    @property
    def action_space(self) -> spaces.Discrete:
        """The sign of the torque, plus 1."""
        return spaces.Discrete(3)

    def reset(self, key: jax.Array) -> tuple[AcrobotState, jax.Array]:
        """Draws angles and velocities from U[−0.1, 0.1)."""
        checks.scalars(self)
        draws = jax.random.uniform(random.unrolled(key), (4,), minval=-0.1, maxval=0.1)
        # Each by itself, as in CartPole.reset.
        state = AcrobotState(*map(random.once, draws))
        return state, _observed(state)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws a number of U[−1, 1) for each step, or nothing without torque noise."""
        if self.torque_noise is None:
            return ()
        return jax.random.uniform(random.unrolled(key), shape, minval=-1.0, maxval=1.0)

    def advance(
        self, state: AcrobotState, action: jax.Array, noise: Any
    ) -> tuple[AcrobotState, TimeStep]:
        """Moves the links for `time_step` under a constant torque."""
        action = spaces.check_element(self.action_space, action, "Acrobot's action")
        torque = self.max_torque * (action.astype(state.theta_1.dtype) - 1)
        if self.torque_noise is not None:
            torque += self.torque_noise * noise
        moved = _runge_kutta(self, state, torque)
        limits = self.max_speed_1, self.max_speed_2
        state = AcrobotState(
            *map(_wrapped, moved[:2]),
            *(jnp.clip(x, -v, v) for x, v in zip(moved[2:], limits, strict=True)),
        )
        height = -self.length_1 * jnp.cos(state.theta_1)
        height -= self.length_2 * jnp.cos(state.theta_1 + state.theta_2)
        terminated = height > self.goal_height
        return state, TimeStep(
            obs=_observed(state),
            reward=terminated.astype(height.dtype) - 1,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def render(self, state: AcrobotState, *, size: int = 400) -> np.ndarray:
        """The two links and the height to exceed, [size, size, 3] uint8.

        Raises:
          TypeError, ValueError: `state` is traced, batched, not finite or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, AcrobotState, "env.reset(key)[0]")
        names = ("length_1", "length_2", "goal_height")
        return pictures.acrobot(
            pictures.number("state.theta_1", state.theta_1),
            pictures.number("state.theta_2", state.theta_2),
            **{n: pictures.number(f"Acrobot.{n}", getattr(self, n)) for n in names},
            size=size,
        )


def accelerations(
    env: Acrobot, state: AcrobotState, torque: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Second derivatives of the two angles, rad/s².

        h  = m₂ l₁ c₂
        e  = m₂ c₂² + I₂
        d₂ = e + h cos θ₂
        d₁ = m₁ c₁² + m₂ l₁² + I₁ + e + 2 h cos θ₂
        φ₂ = m₂ c₂ g sin(θ₁ + θ₂)
        φ₁ = (m₁ c₁ + m₂ l₁) g sin θ₁ + φ₂ − h θ̇₂ (θ̇₂ + 2 θ̇₁) sin θ₂
        n  = u − φ₂ − h θ̇₁² sin θ₂

        d₁ θ̈₁ + d₂ θ̈₂ = −φ₁
        d₂ θ̈₁ + e  θ̈₂ = n

    for a torque u, N·m, with the two equations solved by Cramer's rule. With the
    dynamics "nips", n is without its term h θ̇₁² sin θ₂.
    """
    theta_1, theta_2, speed_1, speed_2 = state
    coupling = env.mass_2 * env.length_1 * env.center_2
    inertia = env.mass_2 * env.center_2**2 + env.inertia_2
    sin, cos = jnp.sin(theta_2), jnp.cos(theta_2)
    d_2 = inertia + coupling * cos
    d_1 = env.mass_1 * env.center_1**2 + env.mass_2 * env.length_1**2 + env.inertia_1
    d_1 += inertia + 2 * coupling * cos
    phi_2 = env.mass_2 * env.center_2 * env.gravity * jnp.sin(theta_1 + theta_2)
    weight = (env.mass_1 * env.center_1 + env.mass_2 * env.length_1) * env.gravity
    phi_1 = weight * jnp.sin(theta_1) + phi_2
    phi_1 -= coupling * speed_2 * (speed_2 + 2 * speed_1) * sin
    net = torque - phi_2
    if env.dynamics == "book":
        net -= coupling * jnp.square(speed_1) * sin
    # One divisor, as XLA makes a kernel of every division: a loop over few kernels
    # becomes one kernel itself, which takes a tenth of the time of one environment.
    determinant = inertia * d_1 - d_2 * d_2
    acc_1 = -(inertia * phi_1 + d_2 * net) / determinant
    return acc_1, (d_1 * net + d_2 * phi_1) / determinant


def _runge_kutta(env: Acrobot, state: AcrobotState, torque: jax.Array) -> AcrobotState:
    """One step of the classical method of order four."""
    time = env.time_step

    def slopes(state):
        acc = accelerations(env, state, torque)
        return AcrobotState(state.theta_dot_1, state.theta_dot_2, *acc)

    def after(time, slopes):
        return jax.tree.map(lambda x, slope: x + time * slope, state, slopes)

    first = slopes(state)
    second = slopes(after(time / 2, first))
    third = slopes(after(time / 2, second))
    fourth = slopes(after(time, third))
    mean = jax.tree.map(
        lambda a, b, c, d: (a + 2 * (b + c) + d) / 6, first, second, third, fourth
    )
    return after(time, mean)


def _wrapped(theta: jax.Array) -> jax.Array:
    """The same angle in [−π, π]."""
    return theta - 2 * math.pi * jnp.round(theta / (2 * math.pi))


def _observed(state: AcrobotState) -> jax.Array:
    """[cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂]."""
    angles = [f(x) for x in state[:2] for f in (jnp.cos, jnp.sin)]
    return jnp.stack([*angles, *state[2:]])
