"""A linear system with a quadratic cost, whose best policy is known exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, random, spaces, struct
from rljax.types import Env, TimeStep

_AXES = {
    "state_matrix": 2,
    "control_matrix": 2,
    "state_cost": 2,
    "control_cost": 2,
    "noise_scale": 1,
    "start_scale": 1,
}
"""How many axes the fields of one system have."""


@struct.dataclass
class LQR(Env):
    """Hold a linear system near 0, where effort costs too: the linear-quadratic
    regulator.

        s' = A s + B u + w,   w ~ N(0, diag(noise_scale²)),   s_0 ~ N(0, diag(start²))
        r = −(sᵀ Q s + uᵀ R u)

    The action is the control u, [M] floating and unbounded; the reward is that of the
    state before the step. State and observation are s, [N] floating. By default they
    are the position and the velocity of a mass that u accelerates, a tenth of a second
    at a time (a double integrator). Episodes never terminate: wrap the environment in
    `TimeLimit`, or use `rljax.make("LQR-DoubleIntegrator")`, which truncates them at
    100 steps.

    The best policy is u = −K s. `planning.riccati` finds K and its return, and
    `planning.linear_return` the return of any other linear policy, both exact.

    All fields are leaves: stack matrices, and vmap over environments made of them.

    Raises:
      TypeError: a field holds no real numbers.
      ValueError: shapes don't fit; a cost is not symmetric, Q has a negative eigenvalue
        or R one that is not positive; a standard deviation is negative.

    Source: Kalman (1960), "Contributions to the Theory of Optimal Control"; Bertsekas
    (2017), Dynamic Programming and Optimal Control, volume I, §3.1.
    """

    state_matrix: Any = ((1.0, 0.1), (0.0, 1.0))
    """A, [N, N]."""
    control_matrix: Any = ((0.005,), (0.1,))
    """B, [N, M]."""
    state_cost: Any = ((1.0, 0.0), (0.0, 0.1))
    """Q, [N, N], symmetric, without negative eigenvalues."""
    control_cost: Any = ((0.1,),)
    """R, [M, M], symmetric, with positive eigenvalues."""
    noise_scale: Any = (0.0, 0.1)
    """Standard deviation of the noise w, [N]; None: it is 0, and steps draw none."""
    start_scale: Any = (1.0, 1.0)
    """Standard deviation of the state at first, [N]."""

    def __post_init__(self):
        for name, axes in _AXES.items():
            if getattr(self, name) is not None or name != "noise_scale":
                _check_array(self, name, axes)
        states, controls = np.shape(self.control_matrix)[-2:]
        for name, axes in _AXES.items():
            size = controls if name == "control_cost" else states
            shape = (states, controls) if name == "control_matrix" else (size,) * axes
            found = np.shape(getattr(self, name))[-axes:]
            if getattr(self, name) is not None and found != shape:
                raise ValueError(
                    f"LQR.{name} must have shape {list(shape)}, as LQR.control_matrix "
                    f"is [{states}, {controls}], has {list(found)}."
                )
        _check_cost(self, "state_cost", "of 0 or more")
        _check_cost(self, "control_cost", "above 0")
        for name in ("noise_scale", "start_scale"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray) and (value < 0).any():
                raise ValueError(f"LQR.{name} must be 0 or more, got {value}.")

    @property
    def observation_space(self) -> spaces.Box:
        """The states, without bounds."""
        return spaces.Box(-np.inf, np.inf, np.shape(self.control_matrix)[-2:-1])

    @property
    def action_space(self) -> spaces.Box:
        """The controls, without bounds."""
        return spaces.Box(-np.inf, np.inf, np.shape(self.control_matrix)[-1:])

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws a state about 0."""
        self.require_one()
        scale = jnp.asarray(self.start_scale, float)
        state = random.once(scale * random.normal(key, scale.shape))
        return state, state

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws the noise of each step, [*shape, N] standard normal, or nothing."""
        if self.noise_scale is None:
            return ()
        return random.normal(key, (*shape, np.shape(self.control_matrix)[-2]))

    def advance(
        self, state: jax.Array, action: jax.Array, noise: Any
    ) -> tuple[jax.Array, TimeStep]:
        """Moves the system on."""
        action = spaces.check_element(self.action_space, action, "LQR's action")
        cost = jnp.sum(state * _times(self.state_cost, state))
        cost += jnp.sum(action * _times(self.control_cost, action))
        state = _times(self.state_matrix, state) + _times(self.control_matrix, action)
        if self.noise_scale is not None:
            state += jnp.asarray(self.noise_scale, float) * noise
        never = jnp.zeros((), bool)
        return state, TimeStep(state, -cost, never, never)

    def require_one(self) -> None:
        """Raises ValueError where the fields are those of several systems."""
        for name, axes in _AXES.items():
            value = getattr(self, name)
            if value is not None and np.ndim(value) != axes:
                raise ValueError(
                    f"LQR.{name} must have {axes} axes here, has shape "
                    f"{list(np.shape(value))}. vmap over several systems."
                )


def _times(matrix: Any, vector: jax.Array) -> jax.Array:
    """Matrix times vector, written out as a sum over columns.

    So it is one kernel with what is around it. A matrix product of so few numbers, or a
    sum over an axis of two, takes XLA several times as long on a CPU.
    """
    columns = jnp.asarray(matrix, float).T
    terms = [columns[i] * vector[i] for i in range(len(columns))]
    return sum(terms[1:], start=terms[0])


def _check_array(env: LQR, name: str, axes: int) -> None:
    """Makes a field an array of finite numbers with so many axes, or more in front."""
    value, label = getattr(env, name), f"LQR.{name}"
    if not isinstance(value, Tracer):
        value = checks.as_floats(label, value)
        if not np.isfinite(value).all():
            raise ValueError(f"{label} must be finite, got {value}.")
        object.__setattr__(env, name, value)
    if np.ndim(value) < axes:
        raise ValueError(
            f"{label} must have {axes} axes, [{', '.join('NM'[:axes])}], got shape "
            f"{list(np.shape(value))}."
        )


def _check_cost(env: LQR, name: str, what: str) -> None:
    """Raises ValueError unless a cost is symmetric and its eigenvalues are right."""
    cost = getattr(env, name)
    if isinstance(cost, Tracer):
        return
    least = 1e-6 * np.abs(cost).max()  # what is smaller is rounding
    eigenvalues = np.linalg.eigvalsh(cost)
    right = eigenvalues >= -least if name == "state_cost" else eigenvalues > 0
    symmetric = np.abs(cost - np.swapaxes(cost, -1, -2)) <= least
    if not right.all() or not symmetric.all():
        raise ValueError(
            f"LQR.{name} must be symmetric with eigenvalues {what}, got "
            f"{cost.tolist()}."
        )
