"""Defaults that are somebody's published constants, or the public names' own."""

import dataclasses
import inspect
import math

import jax.numpy as jnp
import pytest

import rljax
from rljax.experiment.presets import purejaxrl_settings
from rljax.rlhf.rewards import TableReward

TOKENS = rljax.TokenMDP(TableReward(jnp.zeros((1, 8**4)), vocabulary_size=8))


@pytest.mark.parametrize(
    ("value", "published"),
    [
        # Watkins (1989) with the constants of Sutton and Barto (2018), chapter 6.
        (rljax.QLearning(), {"step_size": 0.1, "discount": 0.99, "initial_value": 0}),
        (rljax.QLearning().exploration, {"epsilon": 0.1}),
        # Auer et al. (2002) and the usual constants of a bandit comparison.
        (rljax.exploration.Softmax(), {"temperature": 0.5}),
        (rljax.exploration.UCB(), {"c": 2.0}),
        (rljax.exploration.UCB1(), {"scale": 1.0}),
        # Schulman et al. (2017); Huang et al. (2022), details 3, 5, 7, 9 to 11.
        (
            rljax.PPO(),
            {
                "clip_epsilon": 0.2,
                "discount": 0.99,
                "initialization": "orthogonal",
                "adam_epsilon": 1e-5,
                "num_epochs": 4,
                "num_minibatches": 4,
                "normalize_advantages": True,
                "entropy_coef": 0.01,
                "value_coef": 0.5,
                "max_grad_norm": 0.5,
                # A truncated episode is bootstrapped unless one asks otherwise.
                "time_limit_is_termination": False,
                "clip_value_loss": False,
            },
        ),
        # PureJaxRL's ppo.py, which took CleanRL's constants: 5e5 steps in all, and in
        # its environments a time limit is one end among others.
        (
            purejaxrl_settings(),
            {"num_envs": 4, "rollout_length": 128, "num_epochs": 4}
            | {"num_minibatches": 4, "activation": "tanh", "shared_network": False}
            | {"learning_rate": 2.5e-4, "discount": 0.99}
            | {"gae_lambda": 0.95, "clip_epsilon": 0.2, "clip_value_loss": True}
            | {"normalize_advantages": True, "entropy_coef": 0.01, "value_coef": 0.5}
            | {"max_grad_norm": 0.5, "adam_epsilon": 1e-5}
            | {"initialization": "orthogonal", "time_limit_is_termination": True}
            | {"anneal_updates": 500_000 // (4 * 128)},
        ),
        # Williams (1992): plain returns. Kingma and Ba (2015): ε = 1e-8.
        (
            rljax.Reinforce(),
            {"normalize_returns": False, "discount": 0.99, "adam_epsilon": 1e-8},
        ),
        # ½ (G − V)² at weight 1 is the published critic's weight of 0.5.
        (
            rljax.ActorCritic(),
            {"learning_rate": 0.005, "value_coef": 1.0, "shared_network": True}
            | {"gae_lambda": 1.0, "entropy_coef": 0.0},
        ),
        # Ziegler et al. (2019): K = 0.1, γ = 1, λ = 0.95, the KL in the reward.
        (
            rljax.PPOKL(),
            {"kl_rate": 0.1, "discount": 1.0, "gae_lambda": 0.95, "kl_in": "reward"}
            | {"kl_estimator": "k1", "credit": "token", "clip_epsilon": 0.2}
            | {"kl_target": None, "entropy_coef": 0.0, "normalize_advantages": False},
        ),
        # Shao et al. (2024): advantages over their deviation. Rafailov et al. (2023).
        (rljax.GRPO(), {"normalize_advantages": True, "clip_epsilon": 0.2}),
        (rljax.RLOO(), {"kl_in": "reward", "credit": "sequence", "kl_target": None}),
        # Five arms, means N(1, 0.5²), rewards with a deviation of 0.3.
        (
            rljax.GaussianBandit(),
            {"num_arms": 5, "mean_loc": 1.0, "mean_scale": 0.5, "noise_scale": 0.3},
        ),
        (rljax.BernoulliBandit(), {"num_arms": 5, "drift_scale": None}),
        # Barto, Sutton and Anderson (1983); 12 degrees.
        (
            rljax.CartPole(),
            {"gravity": 9.8, "mass_cart": 1.0, "mass_pole": 0.1, "half_length": 0.5}
            | {"force": 10.0, "time_step": 0.02, "x_threshold": 2.4}
            | {"theta_threshold": math.radians(12)},
        ),
        (rljax.make("CartPole-v1"), {"max_steps": 500}),
        # Gymnasium's; the book's ends at 0.5.
        (
            rljax.MountainCar(),
            {"force": 0.001, "gravity": 0.0025, "max_speed": 0.07}
            | {"min_position": -1.2, "max_position": 0.6}
            | {"goal_position": 0.5, "goal_velocity": 0.0},
        ),
        (
            rljax.MountainCarContinuous(),
            {"force": 0.0015, "gravity": 0.0025, "max_speed": 0.07}
            | {"min_position": -1.2, "max_position": 0.6}
            | {"goal_position": 0.45, "goal_velocity": 0.0},
        ),
        (rljax.make("MountainCarContinuous-v0"), {"max_steps": 999}),
        (
            rljax.Acrobot(),
            {"gravity": 9.8, "mass_1": 1.0, "mass_2": 1.0}
            | {"length_1": 1.0, "length_2": 1.0, "center_1": 0.5, "center_2": 0.5}
            | {"inertia_1": 1.0, "inertia_2": 1.0, "max_torque": 1.0}
            | {"torque_noise": None, "max_speed_1": 4 * math.pi}
            | {"max_speed_2": 9 * math.pi, "goal_height": 1.0, "time_step": 0.2}
            | {"dynamics": "book"},
        ),
        (rljax.make("Acrobot-v1"), {"max_steps": 500}),
        (
            rljax.make("MinAtar/Asterix-v1"),
            {"sticky_action_prob": 0.1, "minimal_actions": True}
            | {"difficulty_ramping": True},
        ),
        (
            rljax.make("MinAtar/SpaceInvaders-v1"),
            {"sticky_action_prob": 0.1, "minimal_actions": True}
            | {"difficulty_ramping": True},
        ),
        (rljax.make("MountainCar-v0"), {"max_steps": 200}),
        # Gymnasium's.
        (
            rljax.Pendulum(),
            {"gravity": 10.0, "mass": 1.0, "length": 1.0, "max_torque": 2.0}
            | {"max_speed": 8.0, "time_step": 0.05},
        ),
        (rljax.make("Pendulum-v1"), {"max_steps": 200}),
        (
            rljax.Taxi(),
            {"step_reward": -1.0, "delivery_reward": 20.0}
            | {"illegal_reward": -10.0, "slip": None},
        ),
        (rljax.Blackjack(), {"natural": "wins"}),
        # Sutton and Barto (2018), example 4.3.
        (rljax.Gambler(), {"heads": 0.4, "goal": 100}),
        # Osband et al. (2020): bsuite's catch, deep_sea, memory_len, umbrella_length.
        (rljax.Catch(), {"rows": 10, "columns": 5}),
        (rljax.DeepSea(), {"move_cost": 0.01, "mapping_seed": 42, "stochastic": False}),
        (rljax.MemoryChain(), {"num_bits": 1}),
        (rljax.Umbrella(), {"num_distractors": 20}),
        # Sutton and Barto (2018), example 6.6, for the cliff.
        (
            rljax.GridWorld(),
            {"goal_reward": 1.0, "step_reward": -0.01, "cliff_reward": -100.0}
            | {"pit_reward": -1.0, "slip": None},
        ),
        (TOKENS, {"horizon": 4, "num_prompts": 1}),
    ],
    ids=lambda x: type(x).__name__,
)
def test_defaults_are_the_published_constants(value, published):
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    assert {name: fields[name] for name in published} == pytest.approx(published)


def test_convolutions_are_the_published_ones():
    # Young and Tian (2019); Mnih et al. (2015).
    cnn = rljax.networks.CNN
    assert cnn() == cnn((16,), (3,), (1,), "relu")
    assert cnn.atari() == cnn((32, 64, 64), (8, 4, 3), (4, 2, 1), "relu")


def test_episodes_are_given_up_after_as_many_steps_everywhere():
    # Scores of what is kept as best, of a sweep and of an evaluation are compared.
    functions = (rljax.evaluate, rljax.sweep, rljax.KeepBest)
    limits = [inspect.signature(f).parameters["max_steps"].default for f in functions]
    assert len(set(limits)) == 1
