"""What the agents report of an update, against NumPy, on one batch and one gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from tests.oracles import distributions, losses
from tests.oracles import returns as returns_oracle

STEPS, ENVS, STATES, ACTIONS = 6, 4, 5, 3
RNG = np.random.default_rng(8)
LOGITS, VALUES = RNG.normal(size=(STATES, ACTIONS)), RNG.normal(size=STATES)
SHAPE = (STEPS, ENVS)
OBS, NEXT_OBS = RNG.integers(0, STATES, (2, *SHAPE))
ACTION = RNG.integers(0, ACTIONS, SHAPE)
REWARD = RNG.normal(size=SHAPE)
TERMINATED, TRUNCATED = RNG.random(SHAPE) < 0.2, RNG.random(SHAPE) < 0.2
LOG_PROBS = np.stack([distributions.log_softmax(row) for row in LOGITS])[OBS, ACTION]
ENTROPY = np.array([distributions.entropy(row) for row in LOGITS])[OBS]
BEHAVIOUR = LOG_PROBS + 0.3 * RNG.normal(size=SHAPE)
GAMMA, LAMBDA, EPSILON = 0.9, 0.8, 0.15


class Table:
    """A row of logits, and a value, per state."""

    def __init__(self, critic):
        self.critic = critic

    def init(self, key, obs):
        params = {"logits": jnp.zeros((STATES, ACTIONS))}
        return params | ({"values": jnp.zeros(STATES)} if self.critic else {})

    def apply(self, params, obs):
        logits = params["logits"][obs]
        return (logits, params["values"][obs]) if self.critic else logits


class Bare:
    """Just the spaces that `init` asks for."""

    observation_space = rljax.spaces.Discrete(STATES)
    action_space = rljax.spaces.Discrete(ACTIONS)


def reported(kind, **settings):
    """The metrics of an update at the tables above."""
    critic = kind is not rljax.Reinforce
    agent = kind(
        num_envs=ENVS,
        rollout_length=STEPS,
        network=Table(critic),
        discount=GAMMA,
        **settings,
    )
    params = {"logits": jnp.asarray(LOGITS)}
    params |= {"values": jnp.asarray(VALUES)} if critic else {}
    state = agent.init(jax.random.key(0), Bare)._replace(params=params)
    trajectory = rljax.Transition(
        *map(jnp.asarray, (OBS, ACTION, REWARD, TERMINATED, TRUNCATED, NEXT_OBS)),
        extras={"behaviour_log_probs": jnp.asarray(BEHAVIOUR)},
    )
    _, metrics = jax.jit(agent.update)(state, trajectory, jax.random.key(0))
    assert all(x.dtype == jnp.float64 and x.shape == () for x in metrics.values())
    return {name: float(x) for name, x in metrics.items() if name != "grad_norm"}


def advantages():
    """GAE of each environment, [T, N]."""
    columns = [
        returns_oracle.gae(
            REWARD[:, n],
            VALUES[OBS[:, n]],
            VALUES[NEXT_OBS[:, n]],
            TERMINATED[:, n],
            TRUNCATED[:, n],
            GAMMA,
            LAMBDA,
        )
        for n in range(ENVS)
    ]
    return np.stack(columns, axis=1)


def test_actor_critic(x64):
    gained = advantages()
    found = reported(rljax.ActorCritic, gae_lambda=LAMBDA, entropy_coef=0.3)
    expected = {
        "policy_loss": losses.policy_gradient(LOG_PROBS, gained)[0],
        "value_loss": 0.5 * np.mean(gained**2),  # the targets are A + V
        "entropy": ENTROPY.mean(),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_ppo(x64):
    gained = advantages()
    found = reported(
        rljax.PPO,
        gae_lambda=LAMBDA,
        clip_epsilon=EPSILON,
        num_epochs=1,
        num_minibatches=1,
    )
    normal = (gained - gained.mean()) / gained.std()
    ratio = np.exp(LOG_PROBS - BEHAVIOUR)
    expected = {
        "policy_loss": losses.ppo_clip(LOG_PROBS, BEHAVIOUR, normal, EPSILON)[0],
        "value_loss": 0.5 * np.mean(gained**2),
        "entropy": ENTROPY.mean(),
        "approx_kl": np.mean(ratio - 1 - np.log(ratio)),
        "clip_fraction": np.mean((ratio < 1 - EPSILON) | (ratio > 1 + EPSILON)),
    }
    assert expected["clip_fraction"] not in (0, 0.5, 1)  # nor its complement
    assert found == pytest.approx(expected, rel=1e-9)


def test_reinforce(x64):
    """Of the first episode of each environment alone."""
    weights, mask = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    for n in range(ENVS):
        done = np.flatnonzero(TERMINATED[:, n] | TRUNCATED[:, n])
        length = done[0] + 1 if len(done) else STEPS
        mask[:length, n] = True
        for t in range(length):
            powers = GAMMA ** np.arange(length - t)
            weights[t, n] = powers @ REWARD[t:length, n]
    assert 0 < mask.mean() < 1
    expected = {
        "policy_loss": -np.sum(LOG_PROBS * weights) / ENVS,
        "entropy": ENTROPY[mask].mean(),
    }
    assert reported(rljax.Reinforce) == pytest.approx(expected, rel=1e-9)
