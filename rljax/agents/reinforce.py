"""REINFORCE: Monte-Carlo policy gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks, returns, struct
from rljax.agents.base import AgentState, PolicyAgent, standardize
from rljax.types import RolloutPlan, Transition


@struct.dataclass
class Reinforce(PolicyAgent):
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
    """Episodes per update, gathered side by side, N."""
    rollout_length: int = struct.static(default=500)
    """Steps after which an episode is cut."""
    discount: float = 0.99
    """γ in [0, 1]."""
    normalize_returns: bool = struct.static(default=False)
    """Whether each batch of returns is shifted and scaled to mean 0, deviation 1. A
    batch that is a single step is left as it is."""
    normalize_rewards: bool = struct.static(default=False)
    """Whether rewards are divided by the standard deviation of discounted returns so
    far, those learned from included, within ±10. What is reported of episodes stays the
    environment's own."""

    def __post_init__(self):
        super().__post_init__()
        checks.reals(self, "discount", minimum=0.0, maximum=1.0)
        checks.bools(self, "normalize_returns", "normalize_rewards")

    @property
    def reward_discount(self) -> Any:
        """The agent's own γ, if rewards are normalised."""
        return self.discount if self.normalize_rewards else None

    @property
    def rollout_plan(self) -> RolloutPlan:
        """Rollouts that begin with a reset, one episode of each."""
        return RolloutPlan(self.num_envs, self.rollout_length, fresh_episodes=True)

    def learn(
        self, state: AgentState, trajectory: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """One gradient step on the mean over episodes; `key` is not needed."""
        del key
        weights, mask = self._weights(trajectory)
        draws = state.policy.recalled(trajectory.action, trajectory.extras)

        def loss_fn(params):
            policy = state.policy.given(self.over_steps(params, trajectory.obs))
            log_probs = policy.draw_log_prob(draws)
            # A sum over each episode's steps, a mean over episodes. Not in terms of
            # losses.policy_gradient_loss, which stops the gradient into the weights,
            # and with it the derivative of training by the discount.
            loss = -jnp.sum(log_probs * weights) / weights.shape[1]
            return loss, jnp.mean(policy.entropy(), where=mask)

        (loss, entropy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        state, grad_norm = self.apply_gradients(state, grads)
        metrics = {"policy_loss": loss, "entropy": entropy, "grad_norm": grad_norm}
        return state, metrics

    def _weights(self, trajectory: Transition) -> tuple[jax.Array, jax.Array]:
        """Returns [T, N] of the first episodes, 0 elsewhere, and where they are."""
        mask = jax.vmap(returns.first_episode, 1, 1)(
            trajectory.terminated, trajectory.truncated
        )
        weights = jax.vmap(
            returns.discounted_returns, in_axes=(1, 1, 1, 1, None), out_axes=1
        )(
            trajectory.reward,
            jnp.zeros_like(trajectory.reward),
            trajectory.terminated,
            trajectory.truncated,
            self.discount,
        )
        if self.normalize_returns:
            # A single step has no deviation: its weight would always be 0.
            several = jnp.sum(mask) > 1
            weights = jnp.where(several, standardize(weights, where=mask), weights)
        return jnp.where(mask, weights, 0), mask
