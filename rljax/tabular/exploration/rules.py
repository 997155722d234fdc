"""Exploration rules as pytrees, and functions that draw and decide in one call."""

import abc
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from rljax import checks, distributions, random, struct
from rljax.distributions import greedy
from rljax.tabular.exploration.functions import kl_ucb, ucb, ucb1


@runtime_checkable
class Exploration(Protocol):
    """A rule: a pytree of its parameters with three pure functions."""

    uses_counts: ClassVar[bool]
    """Whether the rule needs `counts`, which agents then keep."""

    def draw(self, num_actions: int, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The random numbers that decisions need, leaves [*shape, …]."""
        ...

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: Any
    ) -> jax.Array:
        """An action, [] int32; `step` counts all decisions so far, for schedules."""
        ...

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """[A] probability that `select` returns each action."""
        ...


class _OneWord:
    """The base of rules that need one uniform number for a decision and no counts."""

    uses_counts: ClassVar[bool] = False

    def draw(
        self, num_actions: int, shape: tuple[int, ...], key: jax.Array
    ) -> jax.Array:
        """One uniform number in [0, 1) for each decision."""
        del num_actions
        return random.uniform(key, shape)


@struct.dataclass
class EpsilonGreedy(_OneWord):
    """`epsilon_greedy` as a rule; `EpsilonGreedy(0.0)` is the greedy one."""

    epsilon: float | Any = struct.scheduled(default=0.1)
    """ε in [0, 1], or a schedule of it over the agent's steps."""
    ties: str = struct.static(default="random")
    """Which of several best actions is taken: "random", any of them with the same
    probability, or "first", the lowest. Before the first reward all values tie, and an
    agent that then takes the lowest action walks into one and the same wall."""

    def __post_init__(self):
        checks.reals(self, "epsilon", minimum=0.0, maximum=1.0, schedule=True)
        checks.choice(self, "ties", ("random", "first"))

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """Where the uniform number u is below ε, action ⌊u A / ε⌋; else, of the k best,
        the one with ⌊k (u − ε) / (1 − ε)⌋ of them before it, or the first (`ties`)."""
        del counts
        epsilon = jnp.asarray(struct.at_step(self.epsilon, step, 1.0), noise.dtype)
        num_actions = jnp.shape(q_values)[-1]
        explores = noise < epsilon
        # The word's place v within the interval that it lies in, [0, ε) or [ε, 1).
        start = jnp.where(explores, 0, epsilon)
        place = (noise - start) / jnp.where(explores, epsilon, 1 - epsilon)
        if self.ties == "first":
            uniform = nth(place, jnp.asarray(num_actions, jnp.int32))
            return jnp.where(explores, uniform, greedy(q_values))
        allowed = explores | _is_best(q_values)
        rank = nth(place, jnp.sum(allowed, dtype=jnp.int32))
        return jnp.sum(_count_up_to(allowed) <= rank, dtype=jnp.int32)

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """ε/A for each action, and 1 − ε more for the best, shared out by `ties`."""
        del counts
        dtype = jnp.result_type(q_values, 1.0)
        epsilon = jnp.asarray(struct.at_step(self.epsilon, step, 1.0), dtype)
        num_actions = jnp.shape(q_values)[-1]
        if self.ties == "first":
            best = jax.nn.one_hot(greedy(q_values), num_actions, dtype=dtype)
        else:
            best = _is_best(q_values).astype(dtype)
            best /= jnp.maximum(jnp.sum(best, axis=-1, keepdims=True), 1)
        return epsilon / num_actions + (1 - epsilon) * best


def _is_best(q_values: jax.Array) -> jax.Array:
    return q_values == jnp.max(q_values, axis=-1, keepdims=True)


def _count_up_to(flags: jax.Array) -> jax.Array:
    """[A] how many of the flags [A] are set up to each, its own included.

    What `jnp.cumsum` does, but in sums that XLA makes part of the loop over the steps:
    on a CPU, with it, Q-learning was a quarter slower.
    """
    counts, shift = flags.astype(jnp.int32), 1
    while shift < len(flags):
        counts += jax.lax.pad(counts, jnp.int32(0), [(shift, -shift, 0)])
        shift *= 2
    return counts


def nth(place: jax.Array, number: jax.Array) -> jax.Array:
    """⌊place · number⌋, below the number even where a place below 1 is rounded to 1."""
    floor = (place * number.astype(place.dtype)).astype(jnp.int32)
    return jnp.minimum(floor, number - 1)


@struct.dataclass
class Softmax(_OneWord):
    """`softmax` as a rule."""

    temperature: float | Any = struct.scheduled(default=0.5)
    """τ > 0 in units of Q, or a schedule of it over the agent's steps."""

    def __post_init__(self):
        checks.reals(self, "temperature", minimum=0.0, open_minimum=True, schedule=True)

    def _logits(self, q_values: jax.Array, step: jax.Array) -> jax.Array:
        # A constant shift leaves the policy as it is. As a constant it has no gradient
        # either, which `jnp.max` would share out among actions that tie.
        highest = jax.lax.stop_gradient(jnp.max(q_values, axis=-1, keepdims=True))
        temperature = struct.at_step(self.temperature, step, jnp.inf)
        dtype = jnp.result_type(highest, 1.0)
        temperature = jnp.asarray(temperature, dtype)
        # 0/τ would be NaN where a tiny τ has been rounded to 0.
        smallest = jnp.finfo(dtype).tiny
        return (q_values - highest) / jnp.maximum(temperature, smallest)

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """The action at which the cumulative distribution passes the uniform number."""
        del counts
        return distributions.categorical_quantile(self._logits(q_values, step), noise)

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """exp(Q(a)/τ) / Σ_b exp(Q(b)/τ)."""
        del counts
        return jax.nn.softmax(self._logits(q_values, step))


class _Optimistic(abc.ABC):
    """The base of rules that take the highest upper bound, without randomness."""

    uses_counts: ClassVar[bool] = True

    def draw(
        self, num_actions: int, shape: tuple[int, ...], key: jax.Array
    ) -> tuple[()]:
        """Nothing: the rule is deterministic."""
        del num_actions, shape, key
        return ()

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: Any
    ) -> jax.Array:
        """The action with the highest upper bound."""
        del step, noise
        return self._best(q_values, counts, jnp.sum(counts))

    @abc.abstractmethod
    def _best(self, q_values: jax.Array, counts: Any, t: jax.Array) -> jax.Array:
        """The action with the highest upper bound, given t = Σ_a N(a)."""

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """1 for the action that `select` takes."""
        best = self.select(q_values, counts, step, ())
        dtype = jnp.result_type(q_values, 1.0)
        return jax.nn.one_hot(best, jnp.shape(q_values)[-1], dtype=dtype)


@struct.dataclass
class UCB(_Optimistic):
    """`ucb` as a rule; t is the number of decisions in this state, Σ_a N(a)."""

    c: float = 2.0
    """Weight of the bonus, 0 or more, in units of Q."""

    def __post_init__(self):
        checks.reals(self, "c", minimum=0.0)

    def _best(self, q_values: jax.Array, counts: Any, t: jax.Array) -> jax.Array:
        return ucb(q_values, counts, t, self.c)


@struct.dataclass
class UCB1(_Optimistic):
    """`ucb1` as a rule; t is the number of decisions in this state, Σ_a N(a)."""

    scale: float = 1.0
    """Length of the interval of rewards, 0 or more, in units of Q."""

    def __post_init__(self):
        checks.reals(self, "scale", minimum=0.0)

    def _best(self, q_values: jax.Array, counts: Any, t: jax.Array) -> jax.Array:
        return ucb1(q_values, counts, t, self.scale)


@struct.dataclass
class KLUCB(_Optimistic):
    """`kl_ucb` as a rule; t is the number of decisions in this state, Σ_a N(a)."""

    noise_scale: float | None = None
    """σ ≥ 0 of normal rewards; None: rewards in [0, 1], with the Bernoulli KL, see
    `assumes_unit_means`."""
    c: float = 0.0
    """Weight of ln ln t, 0 or more."""

    def __post_init__(self):
        checks.reals(self, "noise_scale", minimum=0.0, optional=True)
        checks.reals(self, "c", minimum=0.0)

    def _best(self, q_values: jax.Array, counts: Any, t: jax.Array) -> jax.Array:
        return kl_ucb(q_values, counts, t, self.c, noise_scale=self.noise_scale)


def epsilon_greedy(
    q_values: jax.Array,
    epsilon: jax.typing.ArrayLike,
    key: jax.Array,
    *,
    ties: str = "random",
) -> jax.Array:
    """A uniform action with probability ε, else argmax_a Q(a).

    One uniform number decides both whether to explore and which action is taken; see
    `EpsilonGreedy.select`.

    Args:
      q_values: [A].
      epsilon: ε in [0, 1].
      key: random key.
      ties: which of several best actions is taken: "random", any of them with the same
        probability, or "first", the lowest.

    Returns:
      [] int32.

    Raises:
      ValueError: ε is outside [0, 1], if it is not traced, or `ties` is another word.

    Source: Sutton and Barto (2018), §2.2.
    """
    rule = EpsilonGreedy(epsilon, ties)
    return decide(rule, q_values, None, key)


def softmax(
    q_values: jax.Array, temperature: jax.typing.ArrayLike, key: jax.Array
) -> jax.Array:
    """An action with probability exp(Q(a)/τ) / Σ_b exp(Q(b)/τ).

    As τ → 0 it is uniform over the best actions.

    Args:
      q_values: [A].
      temperature: τ > 0, in units of Q.
      key: random key.

    Returns:
      [] int32.

    Raises:
      ValueError: τ is not positive, if it is not traced.

    Source: Luce (1959); Sutton and Barto (2018), §2.8.
    """
    return decide(Softmax(temperature), q_values, None, key)


def decide(rule: Any, q_values: Any, counts: Any, key: jax.Array) -> jax.Array:
    """One decision of a rule, with random numbers drawn from a key, at step 0."""
    q_values = checks.rows(q_values=q_values)
    if rule.uses_counts:
        checks.alike(q_values=q_values, counts=counts)
    checks.key(key)
    noise = rule.draw(q_values.shape[-1], (), key)
    return rule.select(q_values, counts, jnp.zeros((), jnp.int32), noise)
