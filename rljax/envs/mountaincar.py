"""Mountain cars: Gymnasium's MountainCar-v0, the book's, and one with a throttle."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env, TimeStep


class MountainCarState(NamedTuple):
    """Where the car is and how fast it goes; each field is [] floating."""

    position: jax.Array
    """x, in [x_min, x_max]."""
    velocity: jax.Array
    """Change of the position in a step."""


@struct.dataclass
class MountainCar(Env):
    """Drive out of a valley with an engine too weak for it: gather speed first.

        v ← clip(v + F (a − 1) − G cos 3x, −v_max, v_max)
        x ← clip(x + v, x_min, x_max);   v ← 0 where x = x_min and v < 0

    with the action a = 0 for full throttle backwards, 1 for none, 2 forwards. The
    observation is [x, v]. The reward is −1 for every step, and the episode terminates
    where x ≥ x_goal and v ≥ v_goal. It starts with v = 0 and x from U[−0.6, −0.4), near
    the bottom at x = −π/6. There is no time limit: wrap the environment in `TimeLimit`,
    or use `rljax.make("MountainCar-v0")`, which truncates episodes at 200 steps. Every
    field is a leaf, so you can vmap over the engine's force, for example.

    The defaults are those of Gymnasium's MountainCar-v0, in which the last position of
    an episode may lie beyond the goal. With `max_position=0.5` positions end at the
    goal, as in the book.

    Raises:
      TypeError, ValueError: a field is not a finite number or out of its range, or the
        goal lies beyond max_position.

    Source: Moore (1990); Sutton and Barto (2018), example 10.1.
    """

    force: float = 0.001
    """F, change of the velocity in a step at full throttle."""
    gravity: float = 0.0025
    """G, change of the velocity in a step on the steepest slope."""
    max_speed: float = 0.07
    """v_max."""
    min_position: float = -1.2
    """x_min, −0.6 at most: a wall at which the car stops."""
    goal_position: float = 0.5
    """x_goal, −0.4 at least."""
    max_position: float = 0.6
    """x_max, x_goal at least: where the car goes no further."""
    goal_velocity: float = 0.0
    """v_goal, the least velocity with which the car has to arrive."""

    def __post_init__(self):
        checks.reals(self, "force", "gravity", "goal_velocity", "max_position")
        checks.reals(self, "max_speed", minimum=0.0, open_minimum=True)
        checks.reals(self, "min_position", maximum=-0.6)
        checks.reals(self, "goal_position", minimum=-0.4)
        goal, end = self.goal_position, self.max_position
        traced = any(isinstance(bound, Tracer) for bound in (goal, end))
        if not (traced or np.all(np.less_equal(goal, end))):
            raise ValueError(
                f"{type(self).__name__}.max_position must be at least goal_position = "
                f"{goal}, got {end}: the goal would be out of reach."
            )

    @property
    def observation_space(self) -> spaces.Box:
        """From [x_min, −v_max] to [x_max, v_max]."""
        low = spaces.stacked(self.min_position, -self.max_speed)
        high = spaces.stacked(self.max_position, self.max_speed)
        return spaces.Box(low, high, (2,))

    @property
    def action_space(self) -> spaces.Space:
        """0 drives backwards, 1 coasts, 2 drives forwards."""
        return spaces.Discrete(3)

    def reset(self, key: jax.Array) -> tuple[MountainCarState, jax.Array]:
        """At rest, at a position from U[−0.6, −0.4)."""
        checks.scalars(self)
        draw = jax.random.uniform(random.unrolled(key), minval=-0.6, maxval=-0.4)
        # State and observation both hold it; without `once`, XLA would draw it twice.
        position = random.once(draw)
        state = MountainCarState(position, jnp.zeros_like(position))
        return state, jnp.stack(state)

    def step(
        self, state: MountainCarState, action: jax.Array, key: jax.Array
    ) -> tuple[MountainCarState, TimeStep]:
        """Drives for a step; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(self.action_space, action, "MountainCar's action")
        throttle = action.astype(state.velocity.dtype) - 1
        return self._drive(state, throttle)

    def _drive(
        self, state: MountainCarState, throttle: jax.Array
    ) -> tuple[MountainCarState, TimeStep]:
        """A step with a throttle in [−1, 1]."""
        slope = self.gravity * jnp.cos(3 * state.position)
        velocity = state.velocity + self.force * throttle - slope
        velocity = jnp.clip(velocity, -self.max_speed, self.max_speed)
        position = state.position + velocity
        position = jnp.clip(position, self.min_position, self.max_position)
        at_wall = (position <= self.min_position) & (velocity < 0)
        state = MountainCarState(position, jnp.where(at_wall, 0, velocity))
        at_goal = position >= self.goal_position
        terminated = at_goal & (state.velocity >= self.goal_velocity)
        return state, TimeStep(
            obs=jnp.stack(state),
            reward=-jnp.ones_like(position),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def render(self, state: MountainCarState, *, size: int = 400) -> np.ndarray:
        """The car in its valley, [size / 2, size, 3] uint8.

        The ground has the shape of sin 3x, a wall at x_min and a flag at x_goal.

        Raises:
          TypeError, ValueError: `state` is traced, batched, not finite or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, MountainCarState, "env.reset(key)[0]")
        who, names = (
            type(self).__name__,
            ("min_position", "goal_position", "max_position"),
        )
        return _picture(
            pictures.number("state.position", state.position),
            **{n: pictures.number(f"{who}.{n}", getattr(self, n)) for n in names},
            size=size,
        )


@struct.dataclass
class MountainCarContinuous(MountainCar):
    """A mountain car with a throttle, whose use costs: Gymnasium's of this name.

        v ← clip(v + F clip(u, −1, 1) − G cos 3x, −v_max, v_max)
        r = 100 [terminated] − 0.1 u²

    The action is the throttle u, [1] floating. What lies beyond ±1 drives no more than
    ±1 does, but costs more. All else is as in `MountainCar`; the engine is stronger and
    the goal nearer. `rljax.make("MountainCarContinuous-v0")` truncates episodes at 999
    steps. Doing nothing earns 0 and driving without arriving earns less, so learners
    often end up doing nothing.

    Raises:
      TypeError, ValueError: as `MountainCar`.

    Source: Gymnasium's MountainCarContinuous-v0.
    """

    force: float = 0.0015
    """F, change of the velocity in a step at full throttle."""
    goal_position: float = 0.45
    """x_goal, −0.4 at least."""

    @property
    def action_space(self) -> spaces.Box:
        """From full throttle backwards, −1, to full throttle forwards, 1."""
        return spaces.Box(-1.0, 1.0, (1,))

    def step(
        self, state: MountainCarState, action: jax.Array, key: jax.Array
    ) -> tuple[MountainCarState, TimeStep]:
        """Drives for a step; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(
            self.action_space, action, "MountainCarContinuous's action"
        )
        state, time_step = self._drive(state, jnp.clip(action[0], -1.0, 1.0))
        earned = jnp.where(time_step.terminated, 100.0, 0.0)
        reward = earned - 0.1 * jnp.square(action[0])
        return state, time_step._replace(reward=reward)


def _picture(
    x: float,
    *,
    min_position: float,
    goal_position: float,
    max_position: float,
    size: int,
) -> np.ndarray:
    """A car on a hill between a wall and a flag, [size / 2, size, 3]."""
    pil, larger = pictures.pillow(), pictures.ENLARGED
    width, height = size * larger, size // 2 * larger
    image = pil.Image.new("RGB", (width, height), pictures.PAPER)
    draw = pil.ImageDraw.Draw(image)
    unit = width / 100
    scale = 0.9 * width / (max_position - min_position)

    def place(x):
        """Column and row of the ground at a position."""
        column = 0.05 * width + (x - min_position) * scale
        return column, (0.55 - 0.33 * math.sin(3 * x)) * height

    margin = 0.05 * width / scale
    edges = np.linspace(min_position - margin, max_position + margin, 200)
    ground = [place(float(edge)) for edge in edges]
    draw.polygon([(0, height), *ground, (width, height)], pictures.LINE)
    draw.line(ground, pictures.INK, round(0.8 * unit))

    wall, at_wall = place(min_position)
    draw.rectangle((0, at_wall - 7 * unit, wall - 2 * unit, height), pictures.INK)
    pole, foot = place(goal_position)
    draw.line((pole, foot, pole, foot - 9 * unit), pictures.INK, round(0.5 * unit))
    flag = [(pole, foot - 9 * unit), (pole, foot - 5 * unit)]
    draw.polygon([*flag, (pole + 5 * unit, foot - 7 * unit)], pictures.GOLD)

    column, row = place(x)
    (before, high), (after, low) = place(x - 0.01), place(x + 0.01)
    angle = math.atan2(low - high, after - before)
    cos, sin = math.cos(angle), math.sin(angle)

    def turned(along, above):
        """A point of the car, which stands at right angles to the ground."""
        return column + along * cos + above * sin, row + along * sin - above * cos

    corners = ((-3.2, 1.5), (3.2, 1.5), (3.2, 3), (1.7, 4.8), (-2.4, 4.8), (-3.2, 3))
    draw.polygon([turned(a * unit, b * unit) for a, b in corners], pictures.AGENT)
    for along in (-1.9, 1.9):
        axle = turned(along * unit, 1.5 * unit)
        draw.ellipse(pictures.square(*axle, 1.3 * unit), pictures.INK)
    return np.array(image.reduce(larger))
