"""Proximal policy optimisation with the clipped objective."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import checks, kernels, losses, networks, random, struct
from rljax.agents import fused
from rljax.agents.base import (
    AgentState,
    adam,
    as_vector,
    gradient_step,
    standardize,
)
from rljax.agents.critic import ActorCriticAgent
from rljax.distributions import Categorical
from rljax.types import EnvLike, Transition


@struct.dataclass
class PPO(ActorCriticAgent):
    """Several epochs of minibatch steps per rollout on a clipped surrogate.

        L = L_clip(ε) + c_v · L_V − c_H · mean[H(π(·|s))]

    `losses.ppo_clip_loss` and `losses.value_loss` (or `clipped_value_loss`) on
    generalised advantages and λ-return targets, which are computed once per rollout.
    Every epoch visits each of the T·N steps once, in a new order.

    Source: Schulman et al. (2017), arXiv:1707.06347; the details after Huang et al.
    (2022), The 37 Implementation Details of Proximal Policy Optimization.
    """

    num_epochs: int = struct.static(default=4)
    """Passes over the rollout per update."""
    num_minibatches: int = struct.static(default=4)
    """Gradient steps per pass; divides rollout_length × num_envs."""
    hidden_sizes: tuple[int, ...] = struct.static(default=(64, 64))
    """Widths of the hidden layers."""
    shared_network: bool = struct.static(default=False)
    """Whether actor and critic share the hidden layers."""
    initialization: Literal["orthogonal", "he_normal"] = struct.static(
        default="orthogonal"
    )
    """Weights at first; orthogonal has gains √2, actor 0.01, critic 1."""
    learning_rate: float = 5e-4
    """Step size of the optimiser, at first. On CartPole 1e-3 is there in three fifths
    of the steps, but leaves more seeds in a dip at the end."""
    gae_lambda: float = 0.98
    """λ in [0, 1] of the advantages."""
    clip_epsilon: float = 0.2
    """ε of the policy's ratio, and of the values with clip_value_loss."""
    dual_clip: float | None = None
    """c > 1, where the ratio is clipped if A < 0, see `losses.ppo_clip_loss`; 3, say.
    None: there it has no upper bound, as published."""
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
    """Adam's ε, for the optimiser that stands here by default."""
    time_limit_is_termination: bool = struct.static(default=False)
    """Whether a truncated episode's last value is 0: wrong, but what several libraries
    do, so needed to compare with them."""
    kernels: Literal["auto", "never", "interpret"] = struct.static(default="auto")
    """Whether kernels of `rljax.kernels` do the work: "auto" on a GPU, where they
    apply, "never", or "interpret" on any device, slowly, to test them."""

    def __post_init__(self):
        super().__post_init__()
        checks.ints(self, "num_epochs", "num_minibatches", minimum=1)
        checks.bools(
            self, "clip_value_loss", "normalize_advantages", "time_limit_is_termination"
        )
        checks.choice(self, "kernels", ("auto", "never", "interpret"))
        checks.reals(self, "clip_epsilon", minimum=0.0)
        checks.reals(self, "dual_clip", minimum=1.0, open_minimum=True, optional=True)
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

    def init(self, key: jax.Array, env: EnvLike) -> AgentState:
        """Draws the weights; zeroes the optimiser's moments, which are one vector."""
        params = self.init_params(key, env)
        opt_state = self.make_optimizer(0).init(as_vector(params)[0])
        return self.first_state(params, opt_state, env, key)

    def act(self, state: AgentState, obs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs); extras hold log π(a|obs) for the ratio, and the draw,
        where it isn't the action."""
        policy = self.policy(state, obs)
        draw = policy.draw(key)
        log_probs = {"behaviour_log_probs": policy.draw_log_prob(draw)}
        return policy.to_action(draw), log_probs | policy.remembered(draw)

    def learn(
        self, state: Any, trajectory: Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """`num_epochs` × `num_minibatches` gradient steps; metrics are their means.

        Raises:
          ValueError: the minibatches do not divide the trajectory's steps.
        """
        if self.time_limit_is_termination:
            done = trajectory.terminated | trajectory.truncated
            trajectory = trajectory._replace(terminated=done)
        advantages, targets, values = self.advantages_and_targets(
            state.params, trajectory
        )
        steps = (trajectory, advantages, targets, values)
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        batch_size = advantages.size
        if batch_size % self.num_minibatches:
            raise ValueError(
                f"PPO.num_minibatches must divide the {batch_size} steps of the "
                f"trajectory, got {self.num_minibatches}."
            )
        learn = type(self)._gradient_steps
        how = self._kernel_mode(state, trajectory.obs)
        if how != "never" and batch_size // self.num_minibatches % 16 == 0:
            learn = kernels.choose(fused.gradient_steps(how), learn, how)
        return learn(self, state, batch, key)

    def _gradient_steps(self, state: Any, batch: Any, key: jax.Array) -> Any:
        """(state, mean metrics) after all epochs over the batch, leaves [T·N, …]."""
        batch_size = len(jax.tree.leaves(batch)[0])
        optimizer = self.make_optimizer(state.num_updates)
        # One vector, not a tree: one kernel for the norm, and Adam's three.
        vector, as_params = as_vector(state.params)

        def minibatch_step(carry, minibatch):
            vector, opt_state = carry
            grads, metrics = jax.grad(
                lambda vector: self._loss(as_params(vector), state.policy, *minibatch),
                has_aux=True,
            )(vector)
            vector, opt_state, metrics["grad_norm"] = gradient_step(
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
            num_updates=optax.safe_increment(state.num_updates),
        )
        return state, jax.tree.map(jnp.mean, metrics)

    def _loss(self, params, kind, steps: Transition, advantages, targets, old_values):
        """The loss above over one minibatch [B], and its parts."""
        outputs, values = jax.vmap(lambda obs: self.apply(params, obs))(steps.obs)
        policy = kind.given(outputs)
        log_probs = policy.draw_log_prob(policy.recalled(steps.action, steps.extras))
        if self.normalize_advantages:
            advantages = standardize(advantages)
        policy_loss, metrics = self.policy_loss(
            log_probs, steps.extras["behaviour_log_probs"], advantages
        )
        value_loss = self.critic_loss(values, old_values, targets)
        entropy = jnp.mean(policy.entropy())
        metrics |= {"value_loss": value_loss, "entropy": entropy}
        loss = policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy
        return loss + self._penalty(policy, steps), metrics

    def policy_loss(
        self,
        log_probs: jax.Array,
        behaviour_log_probs: jax.Array,
        advantages: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The clipped surrogate's loss, and what it says of the step."""
        loss = losses.ppo_clip_loss(
            log_probs,
            behaviour_log_probs,
            advantages,
            self.clip_epsilon,
            self.dual_clip,
        )
        # Of a ratio above e^20, these metrics say no more than that it is so high.
        log_ratio = jnp.minimum(log_probs - behaviour_log_probs, 20.0)
        clipped = jnp.abs(jnp.expm1(log_ratio)) > self.clip_epsilon
        return loss, {
            "policy_loss": loss,
            # An unbiased estimate of KL(π_old‖π), as π_old acted: see rlhf.kl.kl_k3.
            "approx_kl": jnp.mean(jnp.expm1(log_ratio) - log_ratio),
            "clip_fraction": jnp.mean(clipped, dtype=log_ratio.dtype),
        }

    def critic_loss(
        self, values: jax.Array, old_values: jax.Array, targets: jax.Array
    ) -> jax.Array:
        """L_V of the values of one minibatch, clipped if the agent says so."""
        if self.clip_value_loss:
            return losses.clipped_value_loss(
                values, old_values, targets, self.clip_epsilon
            )
        return losses.value_loss(values, targets)

    def _kernel_mode(self, state: Any, obs: Any) -> str:
        """`kernels.mode`, or "never" where this agent is none that kernels are for."""
        params = state.params
        fits = (
            type(self) is PPO  # a derived agent may do anything otherwise
            and self.network is None
            and self.encoder is None
            and not self._normalizes
            and not self.shared_network
            and self.optimizer is adam
            and len(self.hidden_sizes) in (1, 2)
            and max(self.hidden_sizes) <= 64
            and isinstance(state.policy, Categorical)
            and isinstance(params, networks.ActorCriticParams)
            and len(params.actor[-1].bias) <= 8
            and len(params.actor[0].kernel) < 64
            and isinstance(obs, jax.Array)
            and all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, obs)))
        )
        return kernels.mode(self.kernels) if fits else "never"

    def whole_rollout(
        self, state: Any, env: EnvLike, start: Any, noise: Any, plain: Any
    ) -> Any:
        """In one kernel on a GPU, where that is possible."""
        how = self._kernel_mode(state, start.obs)
        run = plain
        if how != "never":
            kernel = fused.rollout(env, start, noise, how)
            run = plain if kernel is None else kernels.choose(kernel, plain, how)
        return run(self, state, env, start, noise)

    def _penalty(self, policy: Any, steps: Transition) -> Any:
        """What a subclass adds to the loss of one minibatch."""
        return 0.0


def _nearby_divisors(number: int, target: int) -> str:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = {*small, *(number // d for d in small)}
    nearest = sorted(sorted(divisors, key=lambda d: abs(d - target))[:3])
    return ", ".join(map(str, nearest))
