"""Direct preference optimisation: from pairs to a policy, without a reward model."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks, distributions, struct
from rljax.rlhf import losses, sequences
from rljax.rlhf.preferences import Preferences
from rljax.rlhf.reference import ReferencePolicy, ReferenceState
from rljax.rlhf.tokens import TokenMDP
from rljax.types import EnvLike, Transition


@struct.dataclass
class DPO(ReferencePolicy):
    """Fits a policy to preferences between finished token sequences.

        L = −mean log σ(β[log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)])

    L is the negative Bradley–Terry log-likelihood of the preferences under the rewards
    β log π/π_ref. With enough preferences between sequences of all kinds, and a network
    that is expressive enough, the policy that minimises L is the one that maximises
    E[r] − β KL(π‖π_ref) for the reward r that the preferences follow.

    The implicit rewards of a policy are β (log π(y|x) − log π_ref(y|x)), up to a
    constant for each prompt; `optimum.log_probs_of` gives both terms.

    The preferences are a fixed data set. `update` learns nothing from rollouts, which
    only measure the policy, so `num_envs` is small.

    Source: Rafailov et al. (2023), arXiv:2305.18290.
    """

    preferences: Preferences = struct.data(kw_only=True)
    """The pairs, such as `rljax.rlhf.preferences.sample_preferences` returns."""
    num_envs: int = struct.static(default=8)
    """Environments stepped side by side, only to measure the policy."""
    batch_size: int | None = struct.static(default=None)
    """Pairs per gradient step, drawn with replacement; None: all of them."""

    def __post_init__(self):
        super().__post_init__()
        checks.reals(self, "kl_coef", minimum=0.0, open_minimum=True)
        if self.batch_size is not None:
            checks.ints(self, "batch_size", minimum=1)
        if not isinstance(self.preferences, Preferences):
            raise TypeError(
                "DPO.preferences must be a rljax.rlhf.preferences.Preferences, got "
                f"{self.preferences!r}."
            )

    def init(self, key: jax.Array, env: EnvLike) -> ReferenceState:
        """Makes the policy equal to its reference; zeroes the optimiser's moments.

        Raises:
          ValueError: `preferences` or `network` does not fit the environment, or
            `reference` does not fit the network.
        """
        sizes = self.preferences.sizes
        own = env.sizes if isinstance(env, TokenMDP) else None
        if own != sizes:
            raise ValueError(
                f"DPO.preferences are of {sizes._asdict()}, but the environment has "
                f"{own and own._asdict()}. Draw them from a TokenMDP like it."
            )
        return super().init(key, env)

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """Takes one gradient step on a batch of pairs; only `kl` uses the trajectory.

        The metrics are those of the policy before the step. `accuracy` is the share of
        the batch's pairs whose implicit rewards β log π/π_ref are in the right order
        (ties count half), `margin` is the mean difference of these rewards, and `kl` is
        the mean of KL(π(·|s)‖π_ref(·|s)) over the rollout's steps.
        """
        pairs = self.preferences
        if self.batch_size is not None:
            drawn = jax.random.randint(key, (self.batch_size,), 0, len(pairs.prompts))
            pairs = jax.tree.map(lambda x: x[drawn], pairs)

        def log_probs(params):
            ends = (pairs.chosen, pairs.rejected)
            return [self._log_probs(params, pairs.prompts, end) for end in ends]

        reference_chosen, reference_rejected = log_probs(state.reference_params)

        def loss_fn(params):
            chosen, rejected = log_probs(params)
            loss = losses.dpo_loss(
                chosen, rejected, reference_chosen, reference_rejected, self.kl_coef
            )
            rewards = self.kl_coef * (chosen - reference_chosen)
            margins = rewards - self.kl_coef * (rejected - reference_rejected)
            return loss, {
                "loss": loss,
                "accuracy": jnp.mean((1 + jnp.sign(margins)) / 2),
                "margin": jnp.mean(margins),
            }

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        before = state
        state, metrics["grad_norm"] = self.apply_gradients(state, grads)
        metrics["kl"] = jnp.mean(
            distributions.categorical_kl(
                self.over_steps(before.params, trajectory.obs),
                self.over_steps(before.reference_params, trajectory.obs),
            )
        )
        return state, metrics

    def _log_probs(
        self, params: Any, prompts: jax.Array, tokens: jax.Array
    ) -> jax.Array:
        """[B] log π(y|x) of whole sequences."""

        def one(prompt, tokens):
            size = self.preferences.vocabulary_size
            obs = sequences.prefixes(prompt, tokens, size)
            logits = jax.vmap(lambda o: self.apply(params, o))(obs)
            return jnp.sum(distributions.categorical_log_prob(logits, tokens))

        return jax.vmap(one)(prompts, tokens)
