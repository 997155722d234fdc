"""Advantage actor-critic: policy gradient with a learned baseline."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, losses, networks, struct
from rljax.agents import common
from rljax.agents.common import AgentState
from rljax.types import Env, Transition


@struct.dataclass
class ActorCritic:
    """One gradient step per rollout on actor and critic together.

        L = mean[−log π(a|s) A] + c_v · ½ mean[(y − V(s))²] − c_H · mean[H(π(·|s))]

    with A the generalised advantage and y = A + V(s), both held constant. With
    `gae_lambda` = 1 this is A = G − V(s), y = G with Monte-Carlo returns G,
    bootstrapped where a limit or the end of the rollout cuts an episode.

    Source: Sutton and Barto (2018), §13.5; Mnih et al. (2016), arXiv:1602.01783.
    """

    num_envs: int = struct.static(default=16)
    """Environments stepped side by side."""
    rollout_length: int = struct.static(default=500)
    """Steps of each environment per update."""
    hidden_sizes: tuple[int, ...] = struct.static(default=(64,))
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    shared_network: bool = struct.static(default=True)
    """Whether actor and critic share the hidden layers."""
    learning_rate: float = 5e-3
    """Step size of the optimiser."""
    discount: float = 0.99
    """γ in [0, 1]."""
    gae_lambda: float = 1.0
    """λ in [0, 1]: 1 is Monte-Carlo, 0 the one-step TD error."""
    entropy_coef: float = 0.0
    """Weight c_H of the entropy bonus."""
    value_coef: float = 1.0
    """Weight c_v of the critic's loss, which has a ½ of its own."""
    max_grad_norm: float | None = None
    """Global norm to which a larger gradient is scaled down; None: no limit."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(
        default=common.adam
    )
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns (logits [A], value []); None: MLPs, as above."""

    def __post_init__(self):
        common.check_settings(self)
        common.check_optimizer(self)
        struct.check_bools(self, "shared_network")
        struct.check_reals(self, "entropy_coef", "value_coef", minimum=0.0)
        struct.check_reals(self, "gae_lambda", minimum=0.0, maximum=1.0)
        struct.check_reals(
            self, "max_grad_norm", minimum=0.0, open_minimum=True, optional=True
        )

    def init(self, key: jax.Array, env: Env) -> AgentState:
        """Draws He-normal weights and zero biases; zeroes the optimiser's moments."""
        params = common.init_actor_critic(self, env, "he_normal", key)
        opt_state = common.built_optimizer(self, self.learning_rate).init(params)
        return AgentState(params, opt_state, jnp.zeros((), jnp.int32))

    def logits(self, state: AgentState, obs: Any) -> jax.Array:
        """Logits of π(·|obs), [A]."""
        return common.apply_actor_critic(self, state.params, obs)[0]

    def value(self, state: AgentState, obs: Any) -> jax.Array:
        """The critic's V(obs), []."""
        return common.apply_actor_critic(self, state.params, obs)[1]

    def act(self, state: AgentState, obs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs)."""
        return distributions.categorical_sample(self.logits(state, obs), key), ()

    def greedy(self, state: AgentState, obs: Any) -> jax.Array:
        """argmax_a π(a|obs), ties to the lowest action."""
        return common.greedy_action(self.logits(state, obs))

    def update(
        self, state: AgentState, trajectory: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """One gradient step on the whole batch; `key` is not needed."""
        del key
        advantages, targets, _ = common.advantages_and_targets(
            self, state.params, trajectory
        )

        def loss_fn(params):
            logits, values = common.batch_apply(self, params, trajectory.obs)
            log_probs = distributions.categorical_log_prob(logits, trajectory.action)
            # losses.policy_gradient_loss would stop the gradient into the advantages,
            # and with it the derivative of training by its hyperparameters.
            policy_loss = -jnp.mean(log_probs * advantages)
            value_loss = losses.value_loss(values, targets)
            entropy = jnp.mean(distributions.categorical_entropy(logits))
            loss = (
                policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy
            )
            return loss, {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "entropy": entropy,
            }

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        params, opt_state, metrics["grad_norm"] = common.gradient_step(
            common.built_optimizer(self, self.learning_rate),
            grads,
            state.params,
            state.opt_state,
        )
        return AgentState(params, opt_state, state.num_updates + 1), metrics
