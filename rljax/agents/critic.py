"""What agents with a critic share: its network, and advantages from its values."""

from typing import Any, Literal

import jax

from rljax import checks, networks, returns, struct
from rljax.agents.base import PolicyAgent
from rljax.types import EnvLike, Transition


@struct.dataclass
class ActorCriticAgent(PolicyAgent):
    """A policy and a critic V, with advantages from λ-returns. Abstract."""

    shared_network: bool = struct.static(default=True)
    """Whether actor and critic share the hidden layers, and the encoder."""
    initialization: Literal["orthogonal", "he_normal"] = struct.static(
        default="he_normal"
    )
    """Weights at first; orthogonal has gains √2, actor 0.01, critic 1."""
    discount: float = 0.99
    """γ in [0, 1]."""
    normalize_rewards: bool = struct.static(default=False)
    """Whether rewards are divided by the standard deviation of discounted returns so
    far, those learned from included, within ±10. What is reported of episodes stays the
    environment's own."""
    gae_lambda: float = 1.0
    """λ in [0, 1] of the advantages: 1 is Monte-Carlo, 0 the one-step TD error."""
    entropy_coef: float = 0.0
    """Weight c_H of the entropy bonus."""
    value_coef: float = 1.0
    """Weight c_v of the critic's loss, which has a ½ of its own."""

    def __post_init__(self):
        super().__post_init__()
        checks.bools(self, "shared_network", "normalize_rewards")
        checks.choice(self, "initialization", networks.INITIALIZATIONS)
        checks.reals(self, "discount", "gae_lambda", minimum=0.0, maximum=1.0)
        checks.reals(self, "entropy_coef", "value_coef", minimum=0.0)

    @property
    def reward_discount(self) -> Any:
        """The agent's own γ, if rewards are normalised."""
        return self.discount if self.normalize_rewards else None

    def init_params(self, key: jax.Array, env: EnvLike) -> Any:
        """Parameters of the user's network, or of MLPs for policy and value."""
        checks.scalars(self)
        policy = self.kind_of_policy(env)
        if self.network is not None:
            return self._init_network(env, (policy.outputs, ()), key)

        def draw(inputs, key):
            return networks.actor_critic_init(
                inputs,
                policy.num_outputs,
                self.hidden_sizes,
                key,
                shared=self.shared_network,
                initialization=self.initialization,
            )

        return self._init_own(draw, 1 if self.shared_network else 2, policy, env, key)

    def apply(self, params: Any, obs: Any) -> tuple[Any, jax.Array]:
        """The network's output for one observation: what the distribution takes, such
        as logits [A], and the value []."""
        if self.network is not None:
            return self.network.apply(params, obs)
        params, obs, log_scale = networks.opened(params, obs)
        params, (obs, *other) = self._encoded(params, obs)
        outputs, value = networks.actor_critic_apply(
            params, obs, self.activation, *other
        )
        return networks.with_log_scale(outputs, log_scale), value

    def outputs(self, state: Any, obs: Any) -> Any:
        """What the network says of the policy, `apply` without the value."""
        return self.apply(state.params, self.read(state, obs))[0]

    def value(self, state: Any, obs: Any) -> jax.Array:
        """The critic's V(obs), []."""
        return self.apply(state.params, self.read(state, obs))[1]

    def advantages_and_targets(
        self, params: Any, trajectory: Transition
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Generalised advantages, λ-return targets and values, each [T, N].

        The critic sees every successor as well as every observation, so that a value is
        bootstrapped from the state that was reached, not from one after a reset.
        """
        _, values = self.over_steps(params, trajectory.obs)
        _, next_values = self.over_steps(params, trajectory.next_obs)
        (values,) = checks.floating(values=values)
        over_envs = jax.vmap(returns.gae, in_axes=(1,) * 5 + (None,) * 2, out_axes=1)
        advantages = over_envs(
            trajectory.reward,
            values,
            next_values,
            trajectory.terminated,
            trajectory.truncated,
            self.discount,
            self.gae_lambda,
        )
        return advantages, advantages + values, values
