"""Actions of every kind: each agent learns with each of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import distributions, spaces, struct, testing
from tests import probes

PPO = functools.partial(
    rljax.PPO,
    num_envs=16,
    rollout_length=32,
    learning_rate=5e-3,
    hidden_sizes=(16,),
)
AGENTS = {
    "ppo": PPO(),
    "ppo, clipped": PPO(squash=False),
    "reinforce": rljax.Reinforce(num_envs=256, rollout_length=1, learning_rate=1e-2),
    "actor-critic": rljax.ActorCritic(
        num_envs=64, rollout_length=8, learning_rate=1e-2
    ),
}


@struct.dataclass
class Target(probes.Probe):
    """The best action is the observation, a real number: r = −(a − obs)²."""

    @property
    def action_space(self):
        return spaces.Box(-np.inf, np.inf, (1,))

    def reset(self, key):
        return probes.start(jax.random.uniform(key, (), minval=-1.0, maxval=1.0))

    def step(self, state, action, key):
        return state, probes.time_step(0.0, -jnp.sum((action - state.obs) ** 2), True)


@struct.dataclass
class Bounded(Target):
    """The same between bounds that are a leaf."""

    bound: float = 2.0

    @property
    def action_space(self):
        return spaces.Box(-self.bound, self.bound, (1,))


@struct.dataclass
class Two(Target):
    """Two choices, ½ for each: the sign of obs, and which third |obs| is in."""

    @property
    def action_space(self):
        return spaces.MultiDiscrete((2, 3))

    def step(self, state, action, key):
        obs = state.obs[0]
        right = jnp.stack([obs > 0, jnp.clip(jnp.floor(3 * jnp.abs(obs)), 0, 2)])
        return state, probes.time_step(0.0, jnp.mean(action == right), True)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("env", "kind", "least"),
    [
        (Target(), distributions.Normal, -0.01),
        (Bounded(), distributions.SquashedNormal, -0.02),
        (Two(), distributions.MultiCategorical, 0.85),
    ],
    ids=["real", "bounded", "two choices"],
)
def test_every_agent_learns_every_action(env, kind, least, name, key):
    agent = AGENTS[name]
    state, _ = rljax.train(agent, env, key, num_updates=150)
    clipped = kind is distributions.SquashedNormal and not agent.squash
    found = type(agent.kind_of_policy(env))
    assert found is (distributions.Normal if clipped else kind)
    out = rljax.evaluate(agent, state.agent_state, env, key, num_episodes=256)
    assert out.episode_returns.mean() > least


@pytest.mark.slow
@pytest.mark.parametrize("env", [Target(), Bounded(), Two()], ids=str)
def test_agents_keep_the_contract_on_every_action(env, key):
    testing.check_agent(PPO(rollout_length=8), env, key)


def network_of(outputs):
    class Net:
        def init(self, key, obs):
            return {"w": jnp.zeros((1, 1))}

        def apply(self, params, obs):
            return outputs(obs @ params["w"]), jnp.zeros(())

    return Net()


def test_a_network_of_the_user_s_returns_mean_and_log_scale(key):
    agent = PPO(network=network_of(lambda x: (x, x - 1.0)))
    policy = agent.policy(agent.init(key, Target()), jnp.ones(1))
    np.testing.assert_allclose((policy.mean, policy.log_scale), [[0], [-1]])
    agent = PPO(network=network_of(lambda x: x))
    with pytest.raises(ValueError, match=r"shapes \(\(\(1,\), \(1,\)\), \(\)\)"):
        agent.init(key, Target())
    with pytest.raises(TypeError, match="PPO.squash must be True or False"):
        PPO(squash="no")
