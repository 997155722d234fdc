"""Training leaves no promotion to JAX: it can be traced where that is forbidden."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import exploration, spaces
from rljax.envs.bandit import Bandit
from rljax.rlhf import networks as causal
from rljax.rlhf import optimum, preferences, rewards
from tests.conftest import enable_x64
from tests.scenes import Scene

KEY = jax.random.key(0)
CARTPOLE = rljax.make("CartPole-v1", max_steps=12)
GRID, LAKE = rljax.make("GridWorld-5x5"), rljax.make("FrozenLake-4x4")
TEXTS = rljax.TokenMDP(rewards.BigramReward.random(3, 3, KEY), 3, 3)
UNIFORM = np.full((1, 27), -np.log(27))
PAIRS = preferences.sample_preferences(TEXTS, UNIFORM, KEY, num_pairs=4)
SMALL = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (4,)}
GROUP = {"num_envs": 4, "group_size": 2, "rollout_length": 3}
BOUNDED = {"kl_in": "loss", "kl_estimator": "k3", "kl_max_log_ratio": 20.0}
PULLS = {"rollout_length": 4, "discount": 0.0, "step_size": None}
FALLING = optax.linear_schedule(1.0, 0.1, 10)


@rljax.struct.dataclass
class Images(rljax.Env):
    """Observations of bytes, rewards of half precision."""

    @property
    def observation_space(self):
        return spaces.Box(0, 255, (2, 2), jnp.uint8)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        return jnp.zeros((), jnp.int32), jnp.zeros((2, 2), jnp.uint8)

    def step(self, state, action, key):
        obs = jnp.full((2, 2), state, jnp.uint8)
        reward, never = jnp.ones((), jnp.bfloat16), jnp.zeros((), bool)
        return state + 1, rljax.TimeStep(obs, reward, never, never)


class Half:
    """A network of half precision."""

    def init(self, key, obs):
        return jnp.zeros((4, 3), jnp.bfloat16)

    def apply(self, params, obs):
        out = obs.ravel().astype(jnp.bfloat16) @ params
        return out[:2], out[2]


RUNS = {
    "PPO": (
        rljax.PPO(**SMALL, dual_clip=3.0, clip_value_loss=True, anneal_updates=5),
        CARTPOLE,
    ),
    "PPO on a grid": (rljax.PPO(**SMALL, time_limit_is_termination=True), LAKE),
    "PPO in half precision": (rljax.PPO(**SMALL, network=Half()), Images()),
    "ActorCritic": (rljax.ActorCritic(**SMALL), Images()),
    "Reinforce": (rljax.Reinforce(**SMALL, normalize_returns=True), CARTPOLE),
    "RLOO": (
        rljax.RLOO(
            **GROUP, **BOUNDED, kl_target=1.0, network=causal.Transformer(3, 3, width=4)
        ),
        TEXTS,
    ),
    "GRPO": (rljax.GRPO(**GROUP, dual_clip=3.0, network=causal.MLP(3, 3)), TEXTS),
    "PPOKL": (
        rljax.PPOKL(num_envs=4, rollout_length=3, **BOUNDED, kl_target=1.0),
        TEXTS,
    ),
    "DPO": (rljax.DPO(preferences=PAIRS, num_envs=2, batch_size=2), TEXTS),
    "QLearning": (rljax.QLearning(rollout_length=4, num_envs=2), GRID),
    "QLearning, means": (rljax.QLearning(rollout_length=4, step_size=None), GRID),
    "DoubleQLearning": (rljax.DoubleQLearning(rollout_length=4), LAKE),
    "DynaQ": (rljax.DynaQ(rollout_length=4, bonus=0.1), LAKE),
    "ExpectedSarsa": (rljax.ExpectedSarsa(rollout_length=4), GRID),
    "Sarsa": (rljax.Sarsa(rollout_length=4, step_size=None), GRID),
    "LinearSarsa": (
        rljax.LinearSarsa(rollout_length=4, num_envs=2),
        rljax.make("MountainCar-v0"),
    ),
    "PPO on Pendulum": (
        rljax.PPO(num_envs=2, rollout_length=8, hidden_sizes=(4,)),
        rljax.make("Pendulum-v1"),
    ),
    "PPO, normalising a tree": (
        rljax.PPO(**SMALL, normalize_observations=True, normalize_rewards=True),
        Scene("tree"),
    ),
    "PPO with a CNN": (rljax.PPO(**SMALL, encoder=rljax.networks.CNN()), Scene()),
    "Reinforce on frames": (
        rljax.Reinforce(**SMALL, normalize_observations=True),
        rljax.FrameStack(rljax.make("Pendulum-v1"), 2),
    ),
    "Sarsa with traces": (rljax.Sarsa(rollout_length=4, lambda_=0.5), GRID),
    "GradientBandit": (rljax.GradientBandit(rollout_length=4, discount=0.0), LAKE),
} | {
    f"{type(rule).__name__} on {type(bandit).__name__}": (
        rljax.QLearning(exploration=rule, **PULLS),
        bandit,
    )
    for rule, bandit in (
        (exploration.EpsilonGreedy(FALLING), rljax.GaussianBandit(drift_scale=0.1)),
        (exploration.Softmax(FALLING), rljax.GaussianBandit()),
        (exploration.UCB(), rljax.GaussianBandit()),
        (exploration.UCB1(), rljax.GaussianBandit()),
        (exploration.KLUCB(), rljax.BernoulliBandit(drift_scale=0.1)),
        (exploration.KLUCB(1.0, 3.0), rljax.GaussianBandit()),
        (exploration.ThompsonGaussian(), rljax.GaussianBandit()),
        (exploration.ThompsonBernoulli(), rljax.BernoulliBandit()),
    )
}


@pytest.mark.parametrize("name", RUNS)
def test_training_is_traced_under_strict_promotion(name):
    """In x64, where a default integer is not the int32 of actions and counts either."""
    agent, env = RUNS[name]

    def everything(key):
        measure = optimum.measure if isinstance(env, rljax.TokenMDP) else None
        state, metrics = rljax.train(agent, env, key, num_updates=2, measure=measure)
        state = state.agent_state
        found = [metrics.episode_return, metrics.episode_length]
        found += [rljax.evaluate(agent, state, env, key, num_episodes=2, max_steps=9)]
        if isinstance(agent, rljax.tabular.agent.TabularAgent):
            found.append(agent.behaviour_policy(state))
        if isinstance(env, Bandit):
            found.append(rljax.bandits.play_bandit(agent, env, key, num_pulls=3)[1])
        return found

    # Half precision becomes float32, which is not the default dtype of x64.
    precision = contextlib.nullcontext() if "half" in name else enable_x64()
    with (
        precision,
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        jax.eval_shape(everything, KEY)


@pytest.mark.parametrize(
    "plan",
    [
        rljax.planning.value_iteration,
        rljax.planning.policy_iteration,
        rljax.planning.modified_policy_iteration,
    ],
)
@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_planning_is_traced_under_strict_promotion(plan, discount):
    with (
        enable_x64(),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        mdp = LAKE.to_mdp()
        jax.eval_shape(lambda mdp: plan(mdp, discount), mdp)


def test_exact_returns_are_traced_under_strict_promotion():
    agent = rljax.QLearning(rollout_length=4)
    with (
        enable_x64(),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        train = rljax.regret.train_with_exact_returns
        jax.eval_shape(lambda key: train(agent, GRID, key, num_updates=2)[2], KEY)


def test_a_mean_of_no_episodes_is_no_fault_while_nans_are_looked_for():
    zero = jnp.zeros(2)
    metrics = rljax.Metrics(jnp.array([0, 1]), zero, zero, {})
    with jax.debug_nans(True):
        np.testing.assert_array_equal(metrics.episode_return, [np.nan, 0])


def test_models_and_preferences_are_traced_under_strict_promotion():
    network = causal.Transformer(3, 3, outputs=1, width=4)
    with (
        enable_x64(),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for env in (GRID, LAKE, TEXTS):
            jax.eval_shape(env.to_mdp)
        pairs = jax.eval_shape(
            lambda key: preferences.sample_preferences(
                TEXTS, jnp.asarray(UNIFORM), key, num_pairs=4
            ),
            KEY,
        )
        jax.eval_shape(
            lambda pairs, key: preferences.fit_reward_model(
                network, pairs, key, num_steps=2
            ),
            pairs,
            KEY,
        )
