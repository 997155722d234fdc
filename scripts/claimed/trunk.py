"""A wrong sign in the shared trunk, as published, keeps it from learning."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rljax
from claimed.common import Claim, Row, difference_of
from rljax import networks, parallel, returns, struct

PUBLISHED = -1.0


def measure(*, quick: bool = False, sign: float = PUBLISHED) -> list[Row]:
    """Trains actor-critics on CartPole-v1 with the right sign and with another.

    In batches of 8 × 500 steps, as `rljax.ActorCritic` does; and as published, with a
    step of SGD after each time step of an episode, the heads' biases untrained, at the
    published step size and at a smaller one. There an episode is cut after 200 steps.

    Args:
      quick: whether 6 seeds, 40 updates and 150 episodes will do, of 16, 80 and 600.
      sign: of the critic's gradient in the trunk; 1 is right.
    """
    num_seeds, num_updates, num_episodes = (6, 40, 150) if quick else (16, 80, 600)
    batches = Measured(num_envs=8)
    as_published = Measured(
        num_envs=1,
        rollout_length=200,
        optimizer=optax.sgd,
        step_by_step=True,
        head_biases=False,
    )
    rows = []
    for name, agent, number, rates in (
        ("batches", batches, num_updates, [batches.learning_rate]),
        ("step by step", as_published, num_episodes, [0.005, 0.0002]),
    ):
        errors, reached = _train(agent, number, [1.0, sign], rates, num_seeds)
        for i, rate in enumerate(rates):
            (right, wrong), (high, low) = errors[:, i], reached[:, i]
            case = f"{name}, α = {rate:g}"
            text = f"{case}, error: {wrong.mean():.2f} − {right.mean():.2f}"
            rows.append(difference_of(text, wrong, right))
            text = f"{case}, return: {high.mean():.0f} − {low.mean():.0f}"
            rows.append(difference_of(text, high, low))
    return rows


def _train(agent, number, signs, rates, num_seeds):
    """Critic's error and return in the last tenth, each [signs, rates, num_seeds]."""

    def one(sign, rate, key):
        learner = dataclasses.replace(agent, trunk_sign=sign, learning_rate=rate)
        env = rljax.make("CartPole-v1")
        _, metrics = rljax.train(learner, env, key, num_updates=number)
        last = jax.tree.map(lambda x: x[-(number // 10) :], metrics)
        total = jnp.sum(last.episode_return_sum)
        episodes = jnp.maximum(jnp.sum(last.num_episodes), 1).astype(total.dtype)
        error = jnp.median(last.agent["critic_error"])
        return error, total / episodes

    shape = (len(signs), len(rates), num_seeds)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    lanes = jnp.meshgrid(
        jnp.array(signs), jnp.array(rates), jnp.arange(num_seeds), indexing="ij"
    )
    sign, rate, seed = (x.ravel() for x in lanes)
    out = parallel.map_seeds(one)(sign, rate, keys[seed])
    return tuple(np.asarray(x).reshape(shape) for x in out)


@struct.dataclass
class Measured(rljax.ActorCritic):
    """An actor-critic that reports its critic's error on what it is about to learn.

        error = Σ (G − V(s))² / Σ G²

    0 is perfect, 1 what V = 0 has. G is bootstrapped where an episode is cut. With
    `step_by_step`, the update is one of ActorCritic after every single time step of one
    episode, in order, and G what was seen of it, both as published.
    """

    trunk_sign: float = 1.0
    """With which the critic's gradient enters the trunk."""
    head_biases: bool = struct.static(default=True)
    """Whether the biases of the two heads are trained."""
    step_by_step: bool = struct.static(default=False)
    """See above."""

    @property
    def rollout_plan(self) -> rljax.types.RolloutPlan:
        """As of an actor-critic; step by step, rollouts begin with a reset."""
        return super().rollout_plan._replace(fresh_episodes=self.step_by_step)

    def apply(self, params: Any, obs: Any) -> tuple[jax.Array, jax.Array]:
        """Logits [2] and value []."""
        if not self.head_biases:
            actor, critic = map(_constant_bias, (params.actor, params.critic))
            params = params._replace(actor=actor, critic=critic)
        h = networks.mlp_apply(params.trunk, obs, "relu", activate_final=True)
        logits = networks.mlp_apply(params.actor, h, "relu")
        # The same number, with the sign as its derivative.
        seen = self.trunk_sign * h + (1 - self.trunk_sign) * jax.lax.stop_gradient(h)
        return logits, networks.mlp_apply(params.critic, seen, "relu").squeeze(-1)

    def update(
        self, state: Any, trajectory: rljax.Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """As above."""
        ends = (trajectory.terminated, trajectory.truncated)
        value = jax.vmap(jax.vmap(lambda obs: self.value(state, obs)))
        values, next_values = value(trajectory.obs), value(trajectory.next_obs)
        mask = jnp.ones(values.shape, bool)
        if self.step_by_step:
            mask = jax.vmap(returns.first_episode, 1, 1)(*ends)
            next_values = jnp.zeros_like(values)
        g = jax.vmap(returns.discounted_returns, (1, 1, 1, 1, None), 1)(
            trajectory.reward, next_values, *ends, self.discount
        )
        error = jnp.sum(jnp.square(g - values), where=mask)
        size = jnp.sum(jnp.square(g), where=mask)
        metrics = {"critic_error": error / jnp.maximum(size, 1e-6)}
        if self.step_by_step:
            return self._in_order(state, trajectory, g, mask), metrics
        return rljax.ActorCritic.update(self, state, trajectory, key)[0], metrics

    def _in_order(self, state, trajectory, g, mask):
        """The state after an update for each step of an episode."""

        def one_step(state, step):
            transition, g, counts = jax.tree.map(lambda x: x[None], step)
            # An episode of one step that pays G: A = G − V(s), and the target is G.
            transition = transition._replace(
                reward=g,
                terminated=jnp.ones((1, 1), bool),
                truncated=jnp.zeros((1, 1), bool),
            )
            key = jax.random.key(0)  # not needed
            after, _ = rljax.ActorCritic.update(self, state, transition, key)
            return jax.tree.map(
                lambda new, old: jnp.where(counts[0, 0], new, old), after, state
            ), None

        return jax.lax.scan(one_step, state, (trajectory, g, mask))[0]


def _constant_bias(layers):
    (layer,) = layers
    return (layer._replace(bias=jax.lax.stop_gradient(layer.bias)),)


CLAIM = Claim(
    "trunk",
    "A wrong sign in the shared trunk, as published, keeps it from learning.",
    "what it costs at the end of training: more of the critic's error Σ(G − V)²/ΣG², "
    "less return",
    "more than 0, CartPole-v1",
    measure,
)
