"""REINFORCE: Monte-Carlo policy gradient."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, networks, returns, struct
from rljax.agents import common
from rljax.agents.common import AgentState
from rljax.types import Env, Transition


@struct.dataclass
class Reinforce:
    """Monte-Carlo policy gradient without a critic.

        θ ← θ + α · 1/N Σ_n Σ_t ∇log π(a_t|s_t) · G_t

    with N = `num_envs` episodes per update; the step is taken by any optax optimiser.
    Rollouts begin with a reset and only the first episode of each counts: to go on with
    the next one would favour the short ones, which have room to end. An episode still
    running after `rollout_length` steps is cut there and its return is what was seen,
    as there is no critic to ask for the rest; a time limit cuts it in the same way.

    Source: Williams (1992); Sutton and Barto (2018), §13.3.
    """

    num_envs: int = struct.static(default=32)
    """Episodes per update, gathered side by side."""
    rollout_length: int = struct.static(default=500)
    """Steps after which an episode is cut."""
    hidden_sizes: tuple[int, ...] = struct.static(default=(64,))
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    learning_rate: float = 5e-3
    """Step size of the optimiser."""
    discount: float = 0.99
    """γ in [0, 1]."""
    normalize_returns: bool = struct.static(default=False)
    """Whether each batch of returns is shifted and scaled to mean 0, deviation 1."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(
        default=common.adam
    )
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns logits [A]; None: an MLP of hidden_sizes."""

    fresh_episodes: ClassVar[bool] = True

    def __post_init__(self):
        common.check_settings(self)
        common.check_optimizer(self)
        struct.check_bools(self, "normalize_returns")

    def init(self, key: jax.Array, env: Env) -> AgentState:
        """Draws He-normal weights and zero biases; zeroes the optimiser's moments."""
        params = common.init_policy(self, env, key)
        opt_state = common.built_optimizer(self, self.learning_rate).init(params)
        return AgentState(params, opt_state, jnp.zeros((), jnp.int32))

    def logits(self, state: AgentState, obs: Any) -> jax.Array:
        """Logits of π(·|obs), [A]."""
        return common.apply_policy(self, state.params, obs)

    def act(self, state: AgentState, obs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs)."""
        return distributions.categorical_sample(self.logits(state, obs), key), ()

    def greedy(self, state: AgentState, obs: Any) -> jax.Array:
        """argmax_a π(a|obs), ties to the lowest action."""
        return common.greedy_action(self.logits(state, obs))

    def update(
        self, state: AgentState, trajectory: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """One gradient step on the mean over episodes; `key` is not needed."""
        del key
        weights, mask = self._weights(trajectory)

        def loss_fn(params):
            logits = common.batch_policy(self, params, trajectory.obs)
            log_probs = distributions.categorical_log_prob(logits, trajectory.action)
            # A sum over each episode's steps, a mean over episodes. Not in terms of
            # losses.policy_gradient_loss, which stops the gradient into the weights,
            # and with it the derivative of training by the discount.
            loss = -jnp.sum(log_probs * weights) / weights.shape[1]
            entropy = distributions.categorical_entropy(logits)
            return loss, jnp.sum(entropy * mask) / jnp.sum(mask)

        (loss, entropy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        params, opt_state, grad_norm = common.gradient_step(
            common.built_optimizer(self, self.learning_rate),
            grads,
            state.params,
            state.opt_state,
        )
        metrics = {"policy_loss": loss, "entropy": entropy, "grad_norm": grad_norm}
        return AgentState(params, opt_state, state.num_updates + 1), metrics

    def _weights(self, trajectory: Transition) -> tuple[jax.Array, jax.Array]:
        """Returns [T, N] of the first episodes, 0 elsewhere, and where they are."""
        mask = jax.vmap(returns.first_episode, 1, 1)(
            trajectory.terminated, trajectory.truncated
        )
        weights = jax.vmap(
            returns.discounted_returns, in_axes=(1, 1, 1, 1, None), out_axes=1
        )(
            trajectory.reward,
            trajectory.terminated,
            trajectory.truncated,
            jnp.zeros_like(trajectory.reward),
            self.discount,
        )
        if self.normalize_returns:
            weights = common.standardize(weights, where=mask)
        return jnp.where(mask, weights, 0), mask
