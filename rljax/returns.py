"""Returns and advantages of one trajectory; callers vmap over batches.

Every array is [T]. Step t goes from s_t to s_{t+1}, the *true* successor, and
`next_values[t]` is V(s_{t+1}), whatever the environment was reset to afterwards. At a
terminated step the value of s_{t+1} is 0; at a truncated one, and at the last step of
the trajectory, V(s_{t+1}) stands for the rewards that were not seen. A trajectory may
hold several episodes: nothing flows back over a done step. All functions take their
arrays in one order: rewards, values, next_values, terminated, truncated. Rewards and
values of half precision are summed up in float32, and so are the results.

No function stops gradients: what is a constant in a loss comes in as an argument.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks

# Outside of jit a scan is compiled at each call, unless a function around it is known.
_compiled = functools.partial(jax.jit, inline=True)


class RunningSum(NamedTuple):
    """A sum in progress, together with what rounding has taken away from it.

    In float32, 10⁶ rewards of −0.01 added one after the other give −9865 instead of
    −10,000. Two numbers hold the sum to twice the digits of one, so that its value is
    right to the last of them, however many numbers are added.

    Source: Dekker (1971); the error of one addition after Knuth (1998), §4.2.2.
    """

    total: jax.Array
    """[...] floating: the sum, rounded."""
    lost: jax.Array
    """[...] floating: what the rounding took away."""

    @property
    def value(self) -> jax.Array:
        """The sum, [...]."""
        return self.total + self.lost

    def add(self, number: jax.Array) -> "RunningSum":
        """The sum with one more number, [...]."""
        number = jnp.asarray(number, self.total.dtype)
        total = self.total + number
        added = total - self.total
        lost = self.lost + _finite((self.total - (total - added)) + (number - added))
        rounded = total + lost
        return RunningSum(rounded, _finite(lost - (rounded - total)))


def _finite(rounding: jax.Array) -> jax.Array:
    """An error of rounding, whose derivative is 0; NaN, of an infinite sum, is none."""
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(rounding), rounding, 0))


def empty_sum(shape: tuple[int, ...] = ()) -> RunningSum:
    """The sum of no numbers, [*shape] in JAX's default floating dtype."""
    zero = jnp.zeros(shape, jnp.result_type(float))
    return RunningSum(zero, zero)


def discounted_returns(
    rewards: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.typing.ArrayLike,
) -> jax.Array:
    """Monte-Carlo returns, bootstrapped where the experience was cut.

        G_t = r_t + γ (1 − terminated_t) · (V(s_{t+1}) if truncated_t or t = T−1
                                            else G_{t+1})

    Pass zeros as `next_values` for the plain sum of the discounted rewards seen.

    Args:
      rewards: [T] r_t.
      next_values: [T] V(s_{t+1}); only those at truncated steps and at T−1 count.
      terminated: [T] bool.
      truncated: [T] bool.
      discount: γ, scalar in [0, 1].

    Returns:
      [T] G_t.

    Raises:
      TypeError: a flag is not bool, or another argument no real numbers.
      ValueError: the arrays' shapes are not one and the same [T], or a scalar is none
        or out of its range.

    Source: Sutton and Barto (2018), §3.3 and §13.3.
    """
    arguments = _one_trajectory(
        rewards=rewards,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        discount=discount,
    )
    return _discounted_returns(*arguments)


@_compiled
def _discounted_returns(rewards, next_values, terminated, truncated, discount):
    cut = truncated | _is_last(rewards)

    # This is not lambda_returns at λ = 1: there V is multiplied by 0, and a value that
    # does not count would still count if it were infinite or NaN.
    def following(next_return, step):
        next_value, terminated, cut = step
        total = discount * jnp.where(cut, next_value, next_return.total)
        lost = jnp.where(terminated | cut, 0, discount * next_return.lost)
        return RunningSum(jnp.where(terminated, 0, total), lost)

    return _sum_back(rewards, following, (next_values, terminated, cut))


def lambda_returns(
    rewards: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.typing.ArrayLike,
    lambda_: jax.typing.ArrayLike,
) -> jax.Array:
    """λ-returns.

        G_t = r_t + γ (1 − terminated_t) · [(1 − λ_t) V(s_{t+1}) + λ_t G_{t+1}]

    with λ_t = λ, but 0 where done and at t = T−1.

    Args:
      rewards: [T] r_t.
      next_values: [T] V(s_{t+1}).
      terminated: [T] bool.
      truncated: [T] bool.
      discount: γ, scalar in [0, 1].
      lambda_: λ, scalar in [0, 1]; 0 gives one-step targets, 1 Monte-Carlo returns.

    Returns:
      [T] G_t.

    Raises:
      TypeError: a flag is not bool, or another argument no real numbers.
      ValueError: the arrays' shapes are not one and the same [T], or a scalar is none
        or out of its range.

    Source: Sutton and Barto (2018), §12.1, recursive form of eq. 12.2.
    """
    arguments = _one_trajectory(
        rewards=rewards,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        discount=discount,
        lambda_=lambda_,
    )
    return _lambda_returns(*arguments)


@_compiled
def _lambda_returns(rewards, next_values, terminated, truncated, discount, lambda_):
    cut = truncated | _is_last(rewards)

    def following(next_return, step):
        next_value, terminated, cut = step
        mixed = (1 - lambda_) * next_value + lambda_ * next_return.total
        total = discount * jnp.where(cut, next_value, mixed)
        lost = jnp.where(terminated | cut, 0, discount * lambda_ * next_return.lost)
        return RunningSum(jnp.where(terminated, 0, total), lost)

    return _sum_back(rewards, following, (next_values, terminated, cut))


def gae(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.typing.ArrayLike,
    lambda_: jax.typing.ArrayLike,
) -> jax.Array:
    """Generalised advantage estimates.

        δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t)
        A_t = δ_t + γλ (1 − done_t) A_{t+1},   A_T = 0

    A_t + V(s_t) is the λ-return, the usual target for the critic.

    Args:
      rewards: [T] r_t.
      values: [T] V(s_t).
      next_values: [T] V(s_{t+1}).
      terminated: [T] bool.
      truncated: [T] bool.
      discount: γ, scalar in [0, 1].
      lambda_: λ, scalar in [0, 1].

    Returns:
      [T] A_t.

    Raises:
      TypeError: a flag is not bool, or another argument no real numbers.
      ValueError: the arrays' shapes are not one and the same [T], or a scalar is none
        or out of its range.

    Source: Schulman et al. (2016), arXiv:1506.02438, eq. 16, with the two ways in
    which an episode ends kept apart.
    """
    arguments = _one_trajectory(
        rewards=rewards,
        values=values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        discount=discount,
        lambda_=lambda_,
    )
    return _gae(*arguments)


@_compiled
def _gae(rewards, values, next_values, terminated, truncated, discount, lambda_):
    td_errors = rewards + jnp.where(terminated, 0, discount * next_values) - values

    def following(next_advantage, done):
        parts = (discount * lambda_ * part for part in next_advantage)
        return RunningSum(*(jnp.where(done, 0, part) for part in parts))

    return _sum_back(td_errors, following, terminated | truncated)


def first_episode(terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    """Marks the steps up to and including the first done one.

    Args:
      terminated: [T] bool.
      truncated: [T] bool.

    Returns:
      [T] bool.

    Raises:
      TypeError: a flag is not bool.
      ValueError: the arrays' shapes are not one and the same [T].
    """
    terminated, truncated = _one_trajectory(terminated=terminated, truncated=truncated)
    done = (terminated | truncated).astype(jnp.int32)
    return jnp.cumsum(done) - done == 0


def _sum_back(numbers: jax.Array, following: Any, steps: Any) -> jax.Array:
    """x_t + following(sum from t+1 on, steps_t) for all t, from the last one backwards.

    At γ = 1 a long episode would lose as much to rounding as a plain sum does.
    """

    def backward(carry, step):
        number, rest = step
        total = following(carry, rest).add(number)
        return total, total.value

    zero = jnp.zeros_like(numbers, shape=())
    start = RunningSum(zero, zero)
    return jax.lax.scan(backward, start, (numbers, steps), reverse=True)[1]


def _is_last(rewards: jax.Array) -> jax.Array:
    return jnp.arange(len(rewards)) == len(rewards) - 1


def _one_trajectory(**arguments: Any) -> list[Any]:
    """The arguments in their order, those that are values in one dtype, if all fit.

    Callers mask values at the ends of episodes with `where`, never by multiplying with
    0, so that an infinite or NaN value that does not count can't do harm.
    """

    def among(*names):
        return {name: x for name, x in arguments.items() if name in names}

    flags = among("terminated", "truncated")
    scalars = among("discount", "lambda_")
    values = {n: x for n, x in arguments.items() if n not in flags | scalars}
    checks.trajectory(**values, **flags)
    numbers = dict(zip(values, checks.floating(**values), strict=True))
    for name, scalar in scalars.items():
        numbers[name] = checks.scalar(0.0, 1.0, **{name: scalar})
    flags = dict(zip(flags, checks.flags(**flags), strict=True))
    dtype = jnp.result_type(*numbers.values(), 1.0)
    for name in values:
        numbers[name] = jnp.asarray(numbers[name], dtype)
    return [(flags | numbers)[name] for name in arguments]
