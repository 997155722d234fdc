"""What PPOKL reports of its divergence, in episodes of whatever number and length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.rlhf import networks as causal
from rljax.rlhf.rewards import TableReward
from rljax.types import Transition
from tests.oracles import distributions

V, H, ENVS, STEPS = 2, 2, 3, 4
ENV = rljax.TokenMDP(TableReward(jnp.zeros((1, V**H)), V), V, H)
NETWORK = causal.Pair(causal.Table(V, H), causal.Table(V, H, outputs=1))
AGENT = rljax.PPOKL(
    num_envs=ENVS,
    rollout_length=STEPS,
    num_minibatches=1,
    network=NETWORK,
    kl_target=1.0,
    kl_rate=0.5,
)
LOGITS, REFERENCE = np.random.default_rng(3).normal(size=(2, 3, V))


@pytest.fixture(scope="module")
def update():
    return jax.jit(AGENT.update)


@pytest.mark.parametrize(
    ("ends", "envs"), [([], 2), ([3], 1), ([1], 2), ([1, 3], 2), ([0, 1, 2, 3], 2)]
)
def test_the_kl_is_that_of_an_episode_however_many_ended(ends, envs, update):
    """Σ_t KL(π‖π_ref)(s_t) over the number of episodes, not of environments."""
    obs = np.random.default_rng(4).integers(0, 3, (STEPS, ENVS))
    done = np.zeros((STEPS, ENVS), bool)
    done[ends, :envs] = True  # at most in two of three environments
    trajectory = Transition(
        obs=jnp.asarray(obs),
        action=jnp.zeros((STEPS, ENVS), jnp.int32),
        reward=jnp.zeros((STEPS, ENVS)),
        terminated=jnp.asarray(done & (np.arange(ENVS) == 0)),
        truncated=jnp.asarray(done & (np.arange(ENVS) == 1)),
        next_obs=jnp.asarray(obs),
        extras={"behaviour_log_probs": jnp.full((STEPS, ENVS), -0.7)},
    )
    state = AGENT.init(jax.random.key(0), ENV)
    critic = state.params[1]
    state = state._replace(
        params=(jnp.asarray(LOGITS, jnp.float32)[None], critic),
        reference_params=(jnp.asarray(REFERENCE, jnp.float32)[None], critic),
    )
    after, metrics = update(state, trajectory, jax.random.key(0))
    total = sum(distributions.kl(LOGITS[s], REFERENCE[s]) for s in obs.ravel())
    episode_kl = total / max(envs * len(ends), 1)
    np.testing.assert_allclose(metrics["kl"], episode_kl, rtol=1e-5)
    # β follows it: up by the clipped relative error, and is kept if none ended.
    error = np.clip(episode_kl / 1.0 - 1, -0.2, 0.2) if ends else 0
    np.testing.assert_allclose(after.kl_coef, 0.1 * (1 + 0.5 * error), rtol=1e-5)
    np.testing.assert_allclose(metrics["beta"], 0.1, rtol=1e-6)
