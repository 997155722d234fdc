"""Grids and lists of settings: what is built, and what is refused."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax.experiment.settings import expand, label

PPO = rljax.PPO(num_envs=4, rollout_length=8)
CARTPOLE = rljax.make("CartPole-v1")
MAZE = rljax.make("GridWorld-5x5")
Q_LEARNING = rljax.QLearning(
    exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=10
)


def test_a_grid_is_every_combination_the_last_name_fastest():
    axes, settings, built = expand(
        PPO, CARTPOLE, {"learning_rate": [1e-3, 3e-3], "env.gravity": [9.8, 20.0]}
    )
    assert axes == {"learning_rate": (1e-3, 3e-3), "env.gravity": (9.8, 20.0)}
    assert [(s["learning_rate"], s["env.gravity"]) for s in settings] == [
        (1e-3, 9.8),
        (1e-3, 20.0),
        (3e-3, 9.8),
        (3e-3, 20.0),
    ]
    for setting, (agent, env) in zip(settings, built, strict=True):
        assert agent.learning_rate == setting["learning_rate"]
        assert env.env.gravity == setting["env.gravity"]  # inside TimeLimit
        assert (agent.num_envs, env.max_steps) == (4, 500)


def test_nothing_to_vary_is_one_setting():
    axes, settings, built = expand(PPO, CARTPOLE)
    assert (axes, settings, built) == ({}, ({},), ((PPO, CARTPOLE),))
    assert label({}) == "default"


def test_alternatives_are_the_first_axes():
    axes, settings, built = expand(
        {"ppo": PPO, "q": Q_LEARNING},
        {"maze": MAZE, "small": rljax.GridWorld.from_text("A.G\n")},
        {"discount": [0.9, 0.99]},
    )
    assert list(axes) == ["agent", "env", "discount"]
    assert settings[0] == {"agent": "ppo", "env": "maze", "discount": 0.9}
    assert len(built) == 8
    assert [type(agent).__name__ for agent, _ in built[3:5]] == ["PPO", "QLearning"]
    assert [agent.discount for agent, _ in built[:2]] == [0.9, 0.99]


def test_a_list_gives_each_setting_its_own_fields():
    axes, settings, built = expand(
        {"ppo": PPO, "q": Q_LEARNING},
        MAZE,
        [
            {"agent": "ppo", "hidden_sizes": (8,), "env.slip": 0.2},
            {"agent": "q", "exploration.epsilon": 0.3, "step_size": 0.5},
        ],
    )
    assert axes == {"setting": tuple(label(setting) for setting in settings)}
    assert built[0][0].hidden_sizes == (8,)
    assert built[0][1].slip == 0.2
    assert built[1][0].exploration.epsilon == 0.3
    assert built[1][0].step_size == 0.5


def test_fields_that_must_fit_one_another_are_checked_together():
    # 3 minibatches do not divide 4 × 8 steps, but they do divide 6 × 8.
    _, _, built = expand(PPO, CARTPOLE, [{"num_minibatches": 3, "num_envs": 6}])
    assert built[0][0].num_minibatches == 3


def test_arrays_of_values_become_numbers():
    for values in (np.array([1e-3, 1e-2]), jnp.array([1e-3, 1e-2])):
        axes, _, _ = expand(PPO, CARTPOLE, {"learning_rate": values})
        assert all(type(value) is float for value in axes["learning_rate"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"learningrate": [1.0]}, ValueError, "PPO has no field for 'learningrate'"),
        ({"env.mass": [1.0]}, ValueError, "CartPole has no field for 'env.mass'"),
        ({"gravity": [1.0]}, ValueError, 'fields begin with "env."'),
        (
            {"learning_rate": 1e-3},
            TypeError,
            r"must be a sequence of values, got 0.001",
        ),
        ({"learning_rate": []}, ValueError, "must hold at least one value, got none"),
        ({"activation": "tanh"}, TypeError, "must be a sequence of values, got 'tanh'"),
        ({"learning_rate": [1e-3, -1.0]}, ValueError, "PPO.learning_rate must be"),
        ({"num_minibatches": [3]}, ValueError, "PPO.num_minibatches must divide"),
        ({"learning_rate": [1e-3, 1e-3]}, ValueError, "'learning_rate=0.001' twice"),
        ([], ValueError, "at least one setting, got an empty list"),
        ([1e-3], TypeError, "each setting must be a dictionary, got 0.001"),
        (7, TypeError, "settings must be a dictionary of values by name or a list"),
        ("rate", TypeError, "settings must be a dictionary of values by name or a"),
        ("", TypeError, "settings must be a dictionary of values by name or a list"),
        (
            {"agent": ["ppo"]},
            ValueError,
            r"agent=\{name: …\} \(there are none\), got 'ppo'",
        ),
        (
            {"agent": [""]},
            ValueError,
            r"agent=\{name: …\} \(there are none\), got ''",
        ),
        ([{"agent": ["ppo"]}], ValueError, r"\(there are none\), got \['ppo'\]"),
        ({"learning_rate.x": [1.0]}, ValueError, "float has no field"),
        ({3: [1.0]}, TypeError, "must be strings such as 'learning_rate' or .*, got 3"),
        ([{3: 1.0}], TypeError, "must be strings such as 'learning_rate' or .*, got 3"),
    ],
)
def test_what_does_not_fit_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        expand(PPO, CARTPOLE, settings)


def test_alternatives_that_do_not_fit_are_refused():
    both = {"ppo": PPO, "q": Q_LEARNING}
    with pytest.raises(
        ValueError, match=r"setting 'discount=0.9' must name its 'agent'"
    ):
        expand(both, MAZE, [{"discount": 0.9}])
    with pytest.raises(ValueError, match=r"\('ppo', 'q'\), got 'sarsa'"):
        expand(both, MAZE, [{"agent": "sarsa"}])
    with pytest.raises(ValueError, match="QLearning has no field for 'learning_rate'"):
        expand(both, MAZE, {"learning_rate": [1e-3]})
    with pytest.raises(ValueError, match="agent must be one or a dictionary"):
        expand({}, MAZE)
    with pytest.raises(TypeError, match="agent must be an agent"):
        expand({"ppo": 3}, MAZE)


def test_functions_and_arrays_are_told_apart_by_a_digest():
    schedules = [optax.constant_schedule(0.1), optax.constant_schedule(0.9)]
    settings = expand(Q_LEARNING, MAZE, {"exploration.epsilon": schedules}).settings
    first, second = map(label, settings)
    assert first != second
    assert first.startswith("exploration.epsilon=constant_schedule.<locals>.<lambda>#")
    assert label({"x": np.zeros(3)}) != label({"x": np.ones(3)})
    assert label({"x": np.zeros((2000, 2))}).startswith("x=array[2000, 2]#")
    assert label({"x": np.float32(0.5)}) == "x=0.5"
    rule = rljax.exploration.EpsilonGreedy
    assert label({"exploration": rule(0.1)}) == (
        "exploration=EpsilonGreedy(epsilon=0.1, ties='random')"
    )
    rewards = [
        rljax.rlhf.rewards.TableReward(jnp.full((1, 9), x), 3) for x in (0.0, 1.0)
    ]
    first, second = (label({"env.reward": reward}) for reward in rewards)
    assert first != second
    assert first.startswith("env.reward=TableReward#") and "\n" not in first
    with pytest.raises(ValueError, match="twice"):
        expand(Q_LEARNING, MAZE, {"exploration.epsilon": schedules[:1] * 2})


def test_a_single_named_alternative_has_its_axis():
    assert expand({"ppo": PPO}, CARTPOLE, {"discount": [0.9]}).axes == {
        "agent": ("ppo",),
        "discount": (0.9,),
    }
    for names in ({1: PPO, "1": PPO}, {"": PPO}):
        with pytest.raises(ValueError, match="agent must be one or a dictionary"):
            expand(names, CARTPOLE)
