"""Advantage actor-critic: policy gradient with a learned baseline."""

import jax
import jax.numpy as jnp

from rljax import losses, struct
from rljax.agents.base import AgentState
from rljax.agents.critic import ActorCriticAgent
from rljax.types import Transition


@struct.dataclass
class ActorCritic(ActorCriticAgent):
    """One gradient step per rollout on actor and critic together.

        L = mean[−log π(a|s) A] + c_v · ½ mean[(y − V(s))²] − c_H · mean[H(π(·|s))]

    with A the generalised advantage and y = A + V(s), both held constant. With
    `gae_lambda` = 1 this is A = G − V(s), y = G with Monte-Carlo returns G,
    bootstrapped where a limit or the end of the rollout cuts an episode.

    Source: Sutton and Barto (2018), §13.5; Mnih et al. (2016), arXiv:1602.01783.
    """

    rollout_length: int = struct.static(default=500)
    """Steps of each environment per update, T."""

    def learn(
        self, state: AgentState, trajectory: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """One gradient step on the whole batch; `key` is not needed."""
        del key
        advantages, targets, _ = self.advantages_and_targets(state.params, trajectory)
        draws = state.policy.recalled(trajectory.action, trajectory.extras)

        def loss_fn(params):
            outputs, values = self.over_steps(params, trajectory.obs)
            policy = state.policy.given(outputs)
            log_probs = policy.draw_log_prob(draws)
            # losses.policy_gradient_loss would stop the gradient into the advantages,
            # and with it the derivative of training by its hyperparameters.
            policy_loss = -jnp.mean(log_probs * advantages)
            value_loss = losses.value_loss(values, targets)
            entropy = jnp.mean(policy.entropy())
            loss = (
                policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy
            )
            return loss, {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "entropy": entropy,
            }

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        state, metrics["grad_norm"] = self.apply_gradients(state, grads)
        return state, metrics
