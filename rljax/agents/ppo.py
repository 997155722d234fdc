"""Proximal policy optimisation with the clipped objective."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, losses, networks, random, struct
from rljax.agents import common
from rljax.agents.common import AgentState
from rljax.types import Env, Transition


@struct.dataclass
class PPO:
    """Several epochs of minibatch steps per rollout on a clipped surrogate.

        L = L_clip(ε) + c_v · L_V − c_H · mean[H(π(·|s))]

    `losses.ppo_clip_loss` and `losses.value_loss` (or `clipped_value_loss`) on
    generalised advantages and λ-return targets, which are computed once per rollout.
    Every epoch visits each of the T·N steps once, in a new order.

    Source: Schulman et al. (2017), arXiv:1707.06347; the details after Huang et al.
    (2022), The 37 Implementation Details of Proximal Policy Optimization.
    """

    num_envs: int = struct.static(default=16)
    """Environments stepped side by side, N."""
    rollout_length: int = struct.static(default=64)
    """Steps of each environment per update, T."""
    num_epochs: int = struct.static(default=4)
    """Passes over the rollout per update."""
    num_minibatches: int = struct.static(default=4)
    """Gradient steps per pass; divides rollout_length × num_envs."""
    hidden_sizes: tuple[int, ...] = struct.static(default=(64, 64))
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    shared_network: bool = struct.static(default=False)
    """Whether actor and critic share the hidden layers."""
    learning_rate: float = 1e-3
    """Adam's step size, at first."""
    anneal_updates: float | None = None
    """Updates over which the learning rate falls linearly to 0; None: constant."""
    discount: float = 0.99
    """γ in [0, 1]."""
    gae_lambda: float = 0.98
    """λ in [0, 1] of the advantages."""
    clip_epsilon: float = 0.2
    """ε of the policy's ratio, and of the values with clip_value_loss."""
    clip_value_loss: bool = struct.static(default=False)
    """Whether the critic's loss is the clipped one."""
    normalize_advantages: bool = struct.static(default=True)
    """Whether advantages are standardised in each minibatch."""
    entropy_coef: float = 0.01
    """Weight c_H of the entropy bonus."""
    value_coef: float = 0.5
    """Weight c_v of the critic's loss."""
    max_grad_norm: float | None = 0.5
    """Global norm to which a larger gradient is scaled down; None: no limit."""
    adam_epsilon: float = 1e-5
    """Adam's ε."""
    initialization: Literal["orthogonal", "he_normal"] = struct.static(
        default="orthogonal"
    )
    """Weights at first; orthogonal has gains √2, actor 0.01, critic 1."""
    time_limit_is_termination: bool = struct.static(default=False)
    """Whether a truncated episode's last value is 0: wrong, but what several libraries
    do, so needed to compare with them."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns (logits [A], value []); None: MLPs, as above."""

    def __post_init__(self):
        common.check_settings(self)
        struct.check_ints(self, "num_epochs", "num_minibatches", minimum=1)
        struct.check_choice(self, "initialization", networks.INITIALIZATIONS)
        struct.check_bools(
            self,
            "shared_network",
            "clip_value_loss",
            "normalize_advantages",
            "time_limit_is_termination",
        )
        struct.check_reals(
            self, "entropy_coef", "value_coef", "clip_epsilon", minimum=0.0
        )
        struct.check_reals(self, "gae_lambda", minimum=0.0, maximum=1.0)
        struct.check_reals(self, "adam_epsilon", minimum=0.0, open_minimum=True)
        struct.check_reals(
            self,
            "anneal_updates",
            "max_grad_norm",
            minimum=0.0,
            open_minimum=True,
            optional=True,
        )
        batch_size = self.rollout_length * self.num_envs
        if batch_size % self.num_minibatches:
            raise ValueError(
                f"PPO.num_minibatches must divide rollout_length × num_envs = "
                f"{self.rollout_length} × {self.num_envs} = {batch_size}, got "
                f"{self.num_minibatches}. Nearby divisors: "
                f"{_nearby_divisors(batch_size, self.num_minibatches)}."
            )
        if self.normalize_advantages and batch_size == self.num_minibatches:
            raise ValueError(
                f"PPO.num_minibatches = {batch_size} leaves one step to a minibatch, "
                "whose advantage normalize_advantages would make 0. Use fewer "
                "minibatches or normalize_advantages=False."
            )

    def init(self, key: jax.Array, env: Env) -> AgentState:
        """Draws the weights as `initialization` says; zeroes Adam's moments."""
        params = common.init_actor_critic(self, env, self.initialization, key)
        opt_state = self._optimizer(0.0).init(common.as_vector(params)[0])
        return AgentState(params, opt_state, jnp.zeros((), jnp.int32))

    def _optimizer(self, learning_rate: Any) -> optax.GradientTransformation:
        adam = common.adam(learning_rate, self.adam_epsilon)
        return common.clipped(adam, self.max_grad_norm)

    def logits(self, state: AgentState, obs: Any) -> jax.Array:
        """Logits of π(·|obs), [A]."""
        return common.apply_actor_critic(self, state.params, obs)[0]

    def value(self, state: AgentState, obs: Any) -> jax.Array:
        """The critic's V(obs), []."""
        return common.apply_actor_critic(self, state.params, obs)[1]

    def act(self, state: AgentState, obs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs); extras hold log π(a|obs) for the ratio."""
        logits = self.logits(state, obs)
        action = distributions.categorical_sample(logits, key)
        log_prob = distributions.categorical_log_prob(logits, action)
        return action, {"behaviour_log_probs": log_prob}

    def greedy(self, state: AgentState, obs: Any) -> jax.Array:
        """argmax_a π(a|obs), ties to the lowest action."""
        return common.greedy_action(self.logits(state, obs))

    def update(
        self, state: AgentState, trajectory: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """`num_epochs` × `num_minibatches` gradient steps; metrics are their means.

        Raises:
          ValueError: the minibatches do not divide the trajectory's steps.
        """
        return self._learn(state, trajectory, key)

    def _learn(self, state: Any, trajectory: Transition, key: jax.Array) -> Any:
        advantages, targets, values = common.advantages_and_targets(
            self, state.params, trajectory, self.time_limit_is_termination
        )
        steps = (trajectory, advantages, targets, values)
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        batch_size = advantages.size
        if batch_size % self.num_minibatches:
            raise ValueError(
                f"PPO.num_minibatches must divide the {batch_size} steps of the "
                f"trajectory, got {self.num_minibatches}."
            )
        learning_rate = common.annealed(self, state.num_updates)
        optimizer = self._optimizer(learning_rate)
        # One vector, not a tree: one kernel for the norm, and Adam's three.
        vector, as_params = common.as_vector(state.params)

        def minibatch_step(carry, minibatch):
            vector, opt_state = carry
            grads, metrics = jax.grad(
                lambda vector: self._loss(as_params(vector), *minibatch), has_aux=True
            )(vector)
            vector, opt_state, metrics["grad_norm"] = common.gradient_step(
                optimizer, grads, vector, opt_state
            )
            return (vector, opt_state), metrics

        def epoch(carry, key):
            order = random.permutation(key, batch_size)
            order = order.reshape(self.num_minibatches, -1)
            minibatches = jax.tree.map(lambda x: x[order], batch)
            return jax.lax.scan(minibatch_step, carry, minibatches)

        (vector, opt_state), metrics = jax.lax.scan(
            epoch,
            (vector, state.opt_state),
            random.split(key, self.num_epochs),
        )
        state = state._replace(
            params=as_params(vector),
            opt_state=opt_state,
            num_updates=state.num_updates + 1,
        )
        return state, jax.tree.map(jnp.mean, metrics)

    def _loss(self, params, steps: Transition, advantages, targets, old_values):
        """The loss above over one minibatch [B], and its parts."""
        logits, values = jax.vmap(
            lambda obs: common.apply_actor_critic(self, params, obs)
        )(steps.obs)
        log_probs = distributions.categorical_log_prob(logits, steps.action)
        behaviour_log_probs = steps.extras["behaviour_log_probs"]
        if self.normalize_advantages:
            advantages = common.standardize(advantages)
        policy_loss = losses.ppo_clip_loss(
            log_probs, behaviour_log_probs, advantages, self.clip_epsilon
        )
        if self.clip_value_loss:
            value_loss = losses.clipped_value_loss(
                values, old_values, targets, self.clip_epsilon
            )
        else:
            value_loss = losses.value_loss(values, targets)
        entropy = jnp.mean(distributions.categorical_entropy(logits))
        log_ratio = log_probs - behaviour_log_probs
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            # Of KL(π_old‖π), as π_old acted.
            "approx_kl": jnp.mean(distributions.kl_k3(behaviour_log_probs, log_probs)),
            "clip_fraction": jnp.mean(
                jnp.abs(jnp.expm1(log_ratio)) > self.clip_epsilon, dtype=log_ratio.dtype
            ),
        }
        loss = policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy
        return loss + self._penalty(logits, steps), metrics

    def _penalty(self, logits: jax.Array, steps: Transition) -> Any:
        """What a subclass adds to the loss of one minibatch."""
        return 0.0


def purejaxrl_settings(num_updates: int = 976) -> PPO:
    """PPO as PureJaxRL and CleanRL run it on CartPole-v1, for matched comparisons.

    976 updates of 4 × 128 steps are the published 5e5; the time limit counts as a
    termination, as it does there.
    """
    return PPO(
        num_envs=4,
        rollout_length=128,
        num_epochs=4,
        num_minibatches=4,
        hidden_sizes=(64, 64),
        activation="tanh",
        shared_network=False,
        learning_rate=2.5e-4,
        anneal_updates=num_updates,
        discount=0.99,
        gae_lambda=0.95,
        clip_epsilon=0.2,
        clip_value_loss=True,
        normalize_advantages=True,
        entropy_coef=0.01,
        value_coef=0.5,
        max_grad_norm=0.5,
        adam_epsilon=1e-5,
        initialization="orthogonal",
        time_limit_is_termination=True,
    )


def _nearby_divisors(number: int, target: int) -> str:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = {*small, *(number // d for d in small)}
    nearest = sorted(sorted(divisors, key=lambda d: abs(d - target))[:3])
    return ", ".join(map(str, nearest))
