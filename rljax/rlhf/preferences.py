"""Pairwise preferences between token sequences, and reward models fitted to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rljax import checks, distributions, random, struct
from rljax.agents.base import gradient_step
from rljax.rlhf import losses, sequences
from rljax.rlhf.networks import CausalNetwork, Table
from rljax.rlhf.rewards import RewardModel
from rljax.rlhf.tokens import TokenMDP


@struct.dataclass
class Preferences:
    """M pairs of finished sequences; one of each pair is preferred to the other.

    Raises:
      ValueError: the shapes do not fit, or an entry is not a prompt or a token.
    """

    prompts: jax.Array
    """[M] int32, in [0, P)."""
    chosen: jax.Array
    """[M, H] int32 tokens of y⁺, in [0, V)."""
    rejected: jax.Array
    """[M, H] int32 tokens of y⁻, in [0, V)."""
    vocabulary_size: int = struct.static()
    """V, the number of different tokens."""
    num_prompts: int = struct.static(default=1)
    """P, the number of prompts."""

    @property
    def sizes(self) -> sequences.Sizes:
        """V, H and P, those of the environment that the sequences are from."""
        horizon = self.chosen.shape[-1]
        return sequences.Sizes(self.vocabulary_size, horizon, self.num_prompts)

    def __post_init__(self):
        checks.ints(self, "vocabulary_size", minimum=2)
        checks.ints(self, "num_prompts", minimum=1)
        shapes = [jnp.shape(x) for x in (self.prompts, self.chosen, self.rejected)]
        (*count,), (*pairs,) = shapes[:2]
        if len(count) != 1 or shapes[2] != shapes[1] or pairs[:-1] != count:
            raise ValueError(
                "Preferences take prompts [M], chosen [M, H] and rejected [M, H], got "
                f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}."
            )
        if not count[0] or not pairs[-1]:
            raise ValueError(
                "Preferences must be at least one pair of one token or more, got "
                f"chosen of shape {shapes[1]}."
            )
        limits = {
            "prompts": self.num_prompts,
            "chosen": self.vocabulary_size,
            "rejected": self.vocabulary_size,
        }
        for name, limit in limits.items():
            value = getattr(self, name)
            if isinstance(value, Tracer):
                continue
            array = np.asarray(value)
            inside = array.dtype.kind in "iu" and ((array >= 0) & (array < limit)).all()
            if not inside:
                raise ValueError(
                    f"Preferences.{name} must be integers in [0, {limit}), got {value}."
                )
            object.__setattr__(self, name, jnp.asarray(value, jnp.int32))


def sample_preferences(
    env: TokenMDP, log_probs: jax.Array, key: jax.Array, *, num_pairs: int
) -> Preferences:
    """Draws pairs of sequences, and from their rewards which of the two is preferred.

        x uniform,  y, y' ~ π(·|x) independently,  P(y ≻ y') = σ(r(x,y) − r(x,y'))

    Args:
      env: TokenMDP whose reward the preferences follow.
      log_probs: [P, V^H] log π(y|x), see `sequences.sequence_log_probs`.
      key: random key.
      num_pairs: M, the number of pairs.

    Returns:
      The pairs; y and y' may be the same sequence.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Bradley and Terry (1952).
    """
    checks.key(key)
    num_pairs = checks.integer("num_pairs", num_pairs, minimum=1)
    if not isinstance(env, TokenMDP):
        raise TypeError(f"env must be a TokenMDP, got a {type(env).__name__}.")
    rewards = env.sequence_rewards()
    if jnp.shape(log_probs) != rewards.shape:
        raise ValueError(
            f"log_probs must be [P, V^H] = {list(rewards.shape)}, got shape "
            f"{list(jnp.shape(log_probs))}."
        )
    if not isinstance(log_probs, Tracer):
        totals = np.exp(np.asarray(log_probs, float)).sum(axis=-1)
        if not (np.abs(totals - 1) < 1e-3).all():
            raise ValueError(
                "log_probs must be logarithms of probabilities that sum to 1 for each "
                f"prompt, they sum to {totals}."
            )
    return _sample(env, log_probs, rewards, key, num_pairs)


@functools.partial(jax.jit, static_argnums=4)
def _sample(env, log_probs, rewards, key, num_pairs):
    key_prompt, key_pair, key_label = jax.random.split(key, 3)
    prompts = jax.random.randint(key_prompt, (num_pairs,), 0, env.num_prompts)
    prompts = prompts.astype(jnp.int32)
    cumulative = distributions.cumulative_probs(jnp.exp(log_probs))
    cumulative = jax.lax.cummax(cumulative, axis=1)
    u = random.uniform(key_pair, (num_pairs, 2), cumulative.dtype)

    def pair(prompt, u):
        own = cumulative[prompt]
        drawn = jnp.searchsorted(own, u * own[-1], side="right")
        # If u · total rounds to total, take the last sequence of positive probability.
        drawn = jnp.minimum(drawn, jnp.searchsorted(own, own[-1], side="left"))
        return drawn, rewards[prompt, drawn]

    codes, of_pair = jax.vmap(pair)(prompts, u)
    p_second = jax.nn.sigmoid(of_pair[:, 1] - of_pair[:, 0])
    swap = random.uniform(key_label, (num_pairs,), p_second.dtype) < p_second
    codes = jnp.where(swap[:, None], codes[:, ::-1], codes)
    tokens = jnp.asarray(sequences.all_tokens(env.vocabulary_size, env.horizon))
    chosen, rejected = tokens[codes[:, 0]], tokens[codes[:, 1]]
    return Preferences(prompts, chosen, rejected, env.vocabulary_size, env.num_prompts)


def fit_reward_model(
    network: CausalNetwork,
    preferences: Preferences,
    key: jax.Array,
    *,
    num_steps: int = 300,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
) -> tuple[RewardModel, jax.Array]:
    """Fits a reward model to preferences by Adam on the Bradley–Terry loss.

    Args:
      network: a causal network with `outputs=1`: `networks.MLP` or
        `networks.Transformer`, not a `Table`, which is 0 for all finished sequences.
      preferences: the pairs.
      key: random key, for the initial parameters.
      num_steps: number of gradient steps.
      learning_rate: Adam's step size at first; it falls linearly to 0.
      weight_decay: AdamW's weight decay, 0 or more; 0 is plain Adam.

    Returns:
      The model, and `losses.bradley_terry_loss` before each step, [num_steps]. The
      preferences determine its rewards only up to a constant for each prompt.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Christiano et al. (2017), arXiv:1706.03741; Ouyang et al. (2022),
      arXiv:2203.02155, eq. 1.
    """
    num_steps = checks.integer("num_steps", num_steps, minimum=1)
    checks.key(key)
    if not isinstance(preferences, Preferences):
        raise TypeError(f"preferences must be Preferences, got {preferences!r}.")
    for label, value in (
        ("learning_rate", learning_rate),
        ("weight_decay", weight_decay),
    ):
        if not isinstance(value, Tracer) and not 0 <= float(value) < np.inf:
            raise ValueError(f"{label} must be finite and at least 0, got {value!r}.")
    if (
        not isinstance(network, CausalNetwork)
        or isinstance(network, Table)
        or network.sizes != preferences.sizes
        or network.outputs != 1
    ):
        wanted = preferences.sizes._asdict() | {"outputs": 1}
        raise ValueError(
            f"network must be a causal network, no table, with {wanted}, got "
            f"{network!r}."
        )
    return _fit(network, preferences, key, num_steps, learning_rate, weight_decay)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _fit(network, preferences, key, num_steps, learning_rate, weight_decay):
    def loss_fn(params):
        over_pairs = jax.vmap(RewardModel(params, network))
        return losses.bradley_terry_loss(
            over_pairs(preferences.prompts, preferences.chosen),
            over_pairs(preferences.prompts, preferences.rejected),
        )

    params = network.init(key, jnp.zeros((), jnp.int32))
    schedule = optax.linear_schedule(learning_rate, 0.0, num_steps)
    optimizer = optax.adamw(schedule, weight_decay=weight_decay)

    def step(carry, _):
        params, opt_state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        params, opt_state, _ = gradient_step(optimizer, grads, params, opt_state)
        return (params, opt_state), loss

    start = (params, optimizer.init(params))
    (params, _), history = jax.lax.scan(step, start, length=num_steps)
    return RewardModel(params, network), history
