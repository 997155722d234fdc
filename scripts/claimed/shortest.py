"""Q-learning finds the shortest path in 1000 episodes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from claimed import mazes
from claimed.common import Claim, Row, share_of
from rljax import exploration, planning

THRESHOLD = 0.95
MOST_STEPS = 200_000
PUBLISHED = rljax.QLearning(
    step_size=0.1,
    discount=0.99,
    exploration=exploration.EpsilonGreedy(0.1, ties="first"),
    rollout_length=5,
)


class Case(NamedTuple):
    """What differs from the text."""

    agent: rljax.QLearning = PUBLISHED
    size: int = 5
    num_episodes: int = 1000
    step_reward: float = -0.01


def changed(**fields: Any) -> Case:
    """The published agent with other fields."""
    return Case(agent=dataclasses.replace(PUBLISHED, **fields))


ANY_BEST = exploration.EpsilonGreedy(0.1, ties="random")
CASES = {
    "as published": Case(),
    "ε = 0.01": changed(exploration=exploration.EpsilonGreedy(0.01, ties="first")),
    "ε = 1": changed(exploration=exploration.EpsilonGreedy(1.0, ties="first")),
    "α = 0.01": changed(step_size=0.01),
    "α = 1": changed(step_size=1.0),
    "ties at random": changed(exploration=ANY_BEST),
    "7×7 mazes": Case(size=7),
    "100 episodes": Case(num_episodes=100),
    "20 episodes": Case(num_episodes=20),
    "steps cost nothing": Case(step_reward=0.0),
    "steps cost nothing, ties at random": Case(
        changed(exploration=ANY_BEST).agent, step_reward=0.0
    ),
}
QUICK = ("as published", "steps cost nothing")


def measure(*, quick: bool = False, goal_reward: float = 1.0) -> list[Row]:
    """The textbook's Q-learning, and with one thing changed.

    Args:
      quick: whether 100 mazes × 2 seeds and two cases will do, of 100 × 10.
      goal_reward: 0 gives no reason to go there.
    """
    number, num_seeds = (100, 2) if quick else (100, 10)
    keys = jax.random.split(jax.random.key(0), (number, num_seeds))
    over_seeds = jax.vmap(finds_it, (None, None, None, 0))
    run = jax.jit(jax.vmap(over_seeds, (None, None, 0, 0)))
    rows = []
    for name in QUICK if quick else CASES:
        agent, size, num_episodes, step_reward = CASES[name]
        rewards = {"goal_reward": goal_reward, "step_reward": step_reward}
        drawn = mazes.draw(number, size, seed=1, **rewards)
        found = np.asarray(run(agent, num_episodes, drawn.mdps, keys))
        rows.append(share_of(name, found.mean(-1), THRESHOLD))
    return rows


def finds_it(agent, num_episodes, mdp, key):
    """Whether the greedy policy then takes a shortest path, [] bool."""
    env = rljax.FiniteMDP(mdp)

    def goes_on(carry):
        _, episodes, steps = carry
        return (episodes < num_episodes) & (steps < MOST_STEPS)

    def more(carry):
        state, episodes, steps = carry
        state, metrics = rljax.train_step(agent, env, state)
        steps += agent.rollout_length
        return state, episodes + metrics.num_episodes, steps

    zero = jnp.zeros((), jnp.int32)
    state, *_ = jax.lax.while_loop(
        goes_on, more, (rljax.init_train(agent, env, key), zero, zero)
    )
    policy = agent.greedy_policy(state.agent_state)
    # The return from the start tells how long the path is, and whether there is one.
    found = planning.expected_return(env.to_mdp(), policy, agent.discount)
    best = planning.policy_iteration(env.to_mdp(), agent.discount)
    paid = jnp.max(mdp.rewards) > 0
    return paid & (planning.initial_value(mdp, best.values) - found < 1e-4)


CLAIM = Claim(
    "shortest",
    "Q-learning finds the shortest path in 1000 episodes.",
    "share of seeds whose greedy policy takes a shortest path from the start",
    f"more than {THRESHOLD}, mean over random 5×5 mazes",
    measure,
)
