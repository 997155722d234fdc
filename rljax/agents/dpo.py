"""Direct preference optimisation: from pairs to a policy, without a reward model."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import distributions, losses, sequences, struct
from rljax.agents import common
from rljax.agents.reference import ReferencePolicy, ReferenceState
from rljax.preferences import Preferences
from rljax.types import Env, Transition


@struct.dataclass
class DPO(ReferencePolicy):
    """Fits a policy to preferences between finished token sequences.

        L = −mean log σ(β[log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)])

    The negative Bradley–Terry log-likelihood of the rewards β log π/π_ref. With enough
    preferences between sequences of all kinds, and a network that can express it, its
    minimum is the optimum of E[r] − β KL(π‖π_ref) for the reward behind them.

    Its implicit rewards are β (log π(y|x) − log π_ref(y|x)), up to a constant for each
    prompt: see `regularized.log_probs_of`.

    The data is fixed. Rollouts only tell how the policy fares: `update` learns nothing
    from them, so `num_envs` is small.

    Source: Rafailov et al. (2023), arXiv:2305.18290.
    """

    preferences: Preferences = struct.data(kw_only=True)
    """The pairs, as `rljax.preferences.sample_preferences` draws them, say."""
    num_envs: int = struct.static(default=8)
    """Episodes played per update, for the record."""
    batch_size: int | None = struct.static(default=None)
    """Pairs per gradient step, drawn with replacement; None: all of them."""

    def __post_init__(self):
        super().__post_init__()
        struct.check_reals(self, "kl_coef", minimum=0.0, open_minimum=True)
        if self.batch_size is not None:
            struct.check_ints(self, "batch_size", minimum=1)
        if not isinstance(self.preferences, Preferences):
            raise TypeError(
                "DPO.preferences must be a rljax.preferences.Preferences, got "
                f"{self.preferences!r}."
            )

    def init(self, key: jax.Array, env: Env) -> ReferenceState:
        """Policy and reference alike; zeroes the optimiser's moments.

        Raises:
          ValueError: `preferences`, `network` or `reference` do not fit.
        """
        pairs = self.preferences
        names = ("num_prompts", "vocabulary_size", "horizon")
        sizes = (pairs.num_prompts, pairs.vocabulary_size, pairs.chosen.shape[-1])
        own = tuple(getattr(env, name, None) for name in names)
        if own != sizes:
            raise ValueError(
                f"DPO.preferences are of {dict(zip(names, sizes, strict=True))}, but "
                f"the environment has {dict(zip(names, own, strict=True))}. Draw them "
                "from a TokenMDP like it."
            )
        return super().init(key, env)

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """One gradient step on a batch of pairs; the trajectory serves for `kl` alone.

        Metrics, of the policy before the step: `accuracy` is the share of the batch's
        pairs that the implicit rewards β log π/π_ref put in the right order (ties count
        half), `margin` their mean difference, `kl` the mean over the rollout's steps of
        KL(π(·|s)‖π_ref(·|s)).
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
        rate = common.annealed(self, state.num_updates)
        optimizer = common.built_optimizer(self, rate)
        params, opt_state, metrics["grad_norm"] = common.gradient_step(
            optimizer, grads, state.params, state.opt_state
        )
        metrics["kl"] = jnp.mean(
            distributions.categorical_kl(
                common.batch_policy(self, state.params, trajectory.obs),
                common.batch_policy(self, state.reference_params, trajectory.obs),
            )
        )
        state = state._replace(
            params=params, opt_state=opt_state, num_updates=state.num_updates + 1
        )
        return state, metrics

    def _log_probs(
        self, params: Any, prompts: jax.Array, tokens: jax.Array
    ) -> jax.Array:
        """[B] log π(y|x) of whole sequences."""

        def one(prompt, tokens):
            size = self.preferences.vocabulary_size
            obs = sequences.prefixes(prompt, tokens, size)
            logits = jax.vmap(lambda o: common.apply_policy(self, params, o))(obs)
            return jnp.sum(distributions.categorical_log_prob(logits, tokens))

        return jax.vmap(one)(prompts, tokens)
