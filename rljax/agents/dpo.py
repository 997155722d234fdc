"""Direct preference optimisation: from pairs to a policy, without a reward model."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, losses, networks, sequences, struct
from rljax.agents import common, reference
from rljax.agents.reference import ReferenceState
from rljax.preferences import Preferences
from rljax.types import Env, Transition


@struct.dataclass
class DPO:
    """Fits a policy to preferences between finished token sequences.

        L = −mean log σ(β[log π(y⁺|x)/π_ref(y⁺|x) − log π(y⁻|x)/π_ref(y⁻|x)])

    The Bradley–Terry likelihood of the rewards β log π/π_ref: with as many preferences
    as it takes, π is the optimum of E[r] − β KL(π‖π_ref) for the reward behind them.

    The data is fixed. Rollouts only tell how the policy fares: `update` learns nothing
    from them, so `num_envs` may be small.

    Source: Rafailov et al. (2023), arXiv:2305.18290.
    """

    preferences: Preferences = struct.data()
    """The pairs, as `rljax.preferences.sample_preferences` draws them, say."""
    num_envs: int = struct.static(default=8)
    """Episodes played per update, for the record."""
    rollout_length: int = struct.static(default=4)
    """Steps of each."""
    batch_size: int | None = struct.static(default=None)
    """Pairs per gradient step, drawn with replacement; None: all of them."""
    hidden_sizes: tuple[int, ...] = struct.static(default=())
    """Widths of the hidden layers; none: a table over discrete observations."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    learning_rate: float = 0.05
    """Step size of the optimiser, at first."""
    anneal_updates: float | None = None
    """Updates over which the learning rate falls linearly to 0; None: constant."""
    max_grad_norm: float | None = None
    """Global norm to which a larger gradient is scaled down; None: no limit."""
    kl_coef: float = 0.1
    """β, more than 0, in units of the reward per nat."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(
        default=common.adam
    )
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns logits [A], such as `rljax.causal`'s; None: an
    MLP of hidden_sizes."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref, from which the policy starts; None: those that are drawn."""

    def __post_init__(self):
        common.check_settings(self)
        common.check_optimizer(self)
        struct.check_reals(self, "kl_coef", minimum=0.0, open_minimum=True)
        struct.check_reals(
            self,
            "anneal_updates",
            "max_grad_norm",
            minimum=0.0,
            open_minimum=True,
            optional=True,
        )
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
          ValueError: `reference` or `preferences` do not fit network or environment.
        """
        params = common.init_policy(self, env, key)
        pairs = self.preferences
        size = (pairs.num_prompts, pairs.vocabulary_size, pairs.chosen.shape[-1])
        names = ("num_prompts", "vocabulary_size", "horizon")
        own = tuple(getattr(env, name, None) for name in names)
        if own != size:
            raise ValueError(
                f"DPO.preferences are of {dict(zip(names, size, strict=True))}, but "
                f"the environment has {dict(zip(names, own, strict=True))}. Draw them "
                "from a TokenMDP like it."
            )
        return reference.start(self, params, self._optimizer(self.learning_rate))

    def _optimizer(self, learning_rate: Any) -> optax.GradientTransformation:
        return common.clipped(self.optimizer(learning_rate), self.max_grad_norm)

    def logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π(·|obs), [A]."""
        return common.apply_policy(self, state.params, obs)

    def reference_logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π_ref(·|obs), [A]."""
        return common.apply_policy(self, state.reference_params, obs)

    def act(
        self, state: ReferenceState, obs: Any, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs)."""
        return distributions.categorical_sample(self.logits(state, obs), key), ()

    def greedy(self, state: ReferenceState, obs: Any) -> jax.Array:
        """argmax_a π(a|obs), ties to the lowest action."""
        return common.greedy_action(self.logits(state, obs))

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """One gradient step on a batch of pairs; of the trajectory only `kl` is made.

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
            above = self.kl_coef * (chosen - reference_chosen)
            margins = above - self.kl_coef * (rejected - reference_rejected)
            return loss, {
                "loss": loss,
                "accuracy": jnp.mean((1 + jnp.sign(margins)) / 2),
                "margin": jnp.mean(margins),
            }

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        optimizer = self._optimizer(common.annealed(self, state.num_updates))
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
