"""Sarsa where states are too many for a table: values linear in binary features."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rljax import checks, distributions, spaces, struct
from rljax.tabular.agent import learn_in_order, one_step_return, taken
from rljax.tabular.exploration import EpsilonGreedy, Exploration
from rljax.tabular.tiles import BinaryFeatures, TileCoding
from rljax.types import Agent, EnvLike, RolloutPlan, Transition


class LinearState(NamedTuple):
    """Everything that `LinearSarsa` learns or counts."""

    weights: jax.Array
    """[F, A] floating w."""
    features: Any
    """The `BinaryFeatures` of the environment's observations."""
    num_steps: jax.Array
    """[] int32: steps learned from so far, 2³¹ − 1 at most. Schedules are evaluated at
    this step."""
    pending: Any
    """The last step of each environment, `PendingStep` with leaves [num_envs, …]."""


class PendingStep(NamedTuple):
    """The previous step, which is learned from once the next action is known."""

    waits: jax.Array
    """[] bool: whether there is one; False at the start of an episode."""
    features: jax.Array
    """[K] int32, the active features of its observation."""
    action: jax.Array
    """[] int32."""
    reward: jax.Array
    """[] floating."""


@struct.dataclass
class LinearSarsa(Agent):
    """Semi-gradient Sarsa: a value is the sum of the weights of K active features.

        q(s,a) = Σ_i w[i,a]                            over the features i active in s
        δ = r + γ (1 − terminated) q(s',a') − q(s,a)
        w[i,a] ← w[i,a] + (α/K) δ                      for the features i active in s

    A step thus moves q(s,a) by α δ, as a step of `Sarsa` does, whatever K is: α = 1
    goes all the way. The book writes the quotient, so that its step size 0.5/8 with 8
    tilings is `step_size=0.5` here. As in `Sarsa`, a' is the action that is taken in
    s', so a step is learned from one step late, and the last step of a truncated
    episode has Σ_a' π(a'|s') q(s',a') in the place of q(s',a'). With one feature for
    each state, K = 1, the two are one and the same.

    Several environments that step side by side share the weights, which learn from
    their transitions one after the other. With a rule that never explores, some run in
    thousands is caught: it goes round states that have the same features, whose values
    fall together for ever.

    Source: Sutton and Barto (2018), §10.1, with the features of §9.5.4.
    """

    features: BinaryFeatures | None = struct.data(default=None)
    """The features of an observation; None: `TileCoding` with 8 tilings of 8 tiles over
    the bounds of the environment's observation space."""
    step_size: float | Any = struct.scheduled(default=0.1)
    """α in [0, 1], or a schedule of it over steps."""
    discount: float = 0.99
    """γ in [0, 1]."""
    exploration: Exploration = EpsilonGreedy(0.1)
    """How actions are chosen in training: a rule of `rljax.exploration` that needs no
    counts."""
    initial_value: float = 0.0
    """q(s,a) before training. Above all true values it makes a greedy agent explore."""
    num_envs: int = struct.static(default=1)
    """Environments stepped side by side."""
    rollout_length: int = struct.static(default=1000)
    """Steps of each environment in one training update, one entry of the metrics."""

    def __post_init__(self):
        checks.ints(self, "num_envs", "rollout_length", minimum=1)
        checks.reals(self, "step_size", minimum=0.0, maximum=1.0, schedule=True)
        checks.reals(self, "discount", minimum=0.0, maximum=1.0)
        checks.reals(self, "initial_value")
        rule, features = self.exploration, self.features
        if isinstance(rule, type) or not isinstance(rule, Exploration):
            raise TypeError(
                "LinearSarsa.exploration must be a rule such as "
                f"rljax.exploration.EpsilonGreedy(0.1), got {rule!r}."
            )
        if rule.uses_counts:
            raise ValueError(
                "LinearSarsa.exploration must need no counts, as no state comes twice, "
                f"got {rule!r}. Take EpsilonGreedy or Softmax."
            )
        known = features is None or isinstance(features, BinaryFeatures)
        if isinstance(features, type) or not known:
            raise TypeError(
                "LinearSarsa.features must be such as rljax.TileCoding(low, high), "
                f"with num_features and a call, got {features!r}."
            )

    @property
    def rollout_plan(self) -> RolloutPlan:
        """The plan of an agent that is updated after every step."""
        return RolloutPlan(self.num_envs, self.rollout_length, update_every=1)

    def init(self, key: jax.Array, env: EnvLike) -> LinearState:
        """Weights with which all values are `initial_value`; draws nothing.

        Raises:
          TypeError: actions are not discrete; or `features` is None and observations
            are not vectors; or it returns no [K] int32.
          ValueError: `features` is None and an observation has no bounds. Where they
            are traced, as in training, all TD errors are NaN instead.
        """
        checks.scalars(self)
        num_actions = spaces.num_actions(env.action_space, "LinearSarsa")
        space = env.observation_space
        features = _tiles(space) if self.features is None else self.features
        active = jax.eval_shape(lambda k: features(env.reset(k)[1]), key)
        if active.ndim != 1 or active.dtype != jnp.int32:
            raise TypeError(
                "LinearSarsa.features must return the indices of active features, [K] "
                f"int32, returned {active.dtype}{list(active.shape)}."
            )
        floating = jnp.result_type(float)
        initial = jnp.asarray(self.initial_value, floating) / active.shape[0]
        pending = PendingStep(
            waits=jnp.zeros((), bool),
            features=jnp.zeros(active.shape, jnp.int32),
            action=jnp.zeros((), jnp.int32),
            reward=jnp.zeros((), floating),
        )
        return LinearState(
            weights=jnp.full((features.num_features, num_actions), initial),
            features=jax.tree.map(jnp.asarray, features),
            num_steps=jnp.zeros((), jnp.int32),
            pending=jax.tree.map(lambda x: jnp.stack([x] * self.num_envs), pending),
        )

    def learned(self, state: LinearState) -> LinearState:
        """The state's `weights` alone, with () for everything else."""
        return LinearState(state.weights, (), (), ())  # pyright: ignore[reportArgumentType]

    def action_values(self, state: LinearState, obs: Any) -> jax.Array:
        """q(obs, ·), [A], the values by which actions are chosen."""
        return _values(state.weights, state.features(obs))

    def draw(self, state: LinearState, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The random numbers that the exploration rule needs, leaves [*shape, …]."""
        return self.exploration.draw(state.weights.shape[-1], shape, key)

    def decide(
        self, state: LinearState, obs: Any, noise: Any, memory: Any = ()
    ) -> tuple[jax.Array, Any, Any]:
        """The action that the exploration rule selects; no extras, same memory."""
        values = self.action_values(state, obs)
        return self.exploration.select(values, (), state.num_steps, noise), (), memory

    def greedy(self, state: LinearState, obs: Any) -> jax.Array:
        """argmax_a q(obs, a), ties to the lowest action."""
        return distributions.greedy(self.action_values(state, obs))

    def update(
        self, state: LinearState, trajectory: Transition, key: jax.Array
    ) -> tuple[LinearState, dict[str, jax.Array]]:
        """Learns from a trajectory [T, N] in the order of time; `key` is not needed.

        Transitions of the same time are learned from in the order of environments.
        """
        del key
        state, errors = learn_in_order(self._learn, state, trajectory)
        return state, {"abs_td_error": jnp.mean(errors)}

    def _learn(self, state, step):
        """Learns from the previous step, if it waits, and this one, if it is done."""
        (transition, pending), weights = step, state.weights
        action, features = transition.action, state.features(transition.obs)
        rate = struct.at_step(self.step_size, state.num_steps, 1.0)
        rate = jnp.asarray(rate, weights.dtype) / features.size
        # The next action was chosen by values that neither step had changed yet.
        next_value = taken(_values(weights, features), action)
        target = pending.reward + self.discount * next_value
        weights, error_before = _learn_at(
            weights, pending.features, pending.action, target, rate, pending.waits
        )
        next_values = _values(weights, state.features(transition.next_obs))
        policy = self.exploration.probabilities(next_values, (), state.num_steps)
        expected = jnp.sum(policy * next_values)
        done = transition.terminated | transition.truncated
        target = one_step_return(transition, self.discount, expected)
        weights, error_now = _learn_at(weights, features, action, target, rate, done)
        reward = transition.reward.astype(pending.reward.dtype)
        pending = PendingStep(~done, features, action, reward)
        num_steps = optax.safe_increment(state.num_steps)
        state = state._replace(weights=weights, num_steps=num_steps)
        return state, (pending, jnp.abs(jnp.where(done, error_now, error_before)))


def _values(weights: jax.Array, features: jax.Array) -> jax.Array:
    """Σ_i w[i,·] over the active features, [A]; NaN where there is no such feature."""
    return jnp.sum(weights.at[features].get(mode="fill"), axis=0)


def _learn_at(weights, features, action, target, rate, is_due):
    """(weights, TD error) after a step, where it is due; the error is 0 elsewhere."""
    value = jnp.sum(weights.at[features, action].get(mode="fill"))
    td_error = jnp.where(is_due, target - value, 0)
    return weights.at[features, action].add(rate * td_error), td_error


def _tiles(space: Any) -> TileCoding:
    """Tiles over the bounds of a space of vectors.

    Raises:
      TypeError: the space is another.
      ValueError: a bound is not finite.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise TypeError(
            "LinearSarsa lays tiles over vectors, but env.observation_space is "
            f"{space}. Give features of your own, or take Sarsa if it is Discrete."
        )
    bounds = [space.low, space.high]
    for bound in bounds:
        if not isinstance(bound, Tracer) and not np.isfinite(bound).all():
            raise ValueError(
                "LinearSarsa lays tiles between the bounds of observations, but those "
                f"of env.observation_space are {space.low} and {space.high}. Give "
                "features=rljax.TileCoding(low, high) with finite ones."
            )
    low, high = (jnp.broadcast_to(bound, space.shape) for bound in bounds)
    return TileCoding(low, high)
