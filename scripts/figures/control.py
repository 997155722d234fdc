"""Chapter 6: control by temporal differences, on a cliff and with a biased maximum."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import distributions, exploration, parallel, planning, random, spaces, struct

CLIFF = rljax.make("CliffWalking")
SHORTEST = 13
"""Steps of the shortest way along the cliff: no two episodes end in so many."""
STEP_SIZES = np.arange(1, 11) / 10
RULE = exploration.EpsilonGreedy(0.1)


def first_episodes(metrics: rljax.Metrics, number: int) -> tuple[jax.Array, jax.Array]:
    """Returns and lengths [number] of the first episodes of a training.

    No two of them may have ended in one update. NaN stands for those that did not end.
    """
    (updates,) = jnp.nonzero(
        metrics.num_episodes, size=number, fill_value=len(metrics.num_episodes)
    )
    sums = (metrics.episode_return_sum, metrics.episode_length_sum)
    returns, lengths = (x.at[updates].get(mode="fill", fill_value=np.nan) for x in sums)
    return returns, lengths


def weakest(statements: Iterable[common.Statement]) -> common.Statement:
    """The one with the lowest interval of several that something is above 0."""
    return min(statements, key=lambda said: said.low)


def keys(number: int) -> jax.Array:
    """A key for each run."""
    return random.split(random.key(0), number)


def on_host(arrays: Any) -> Any:
    """The arrays on the host, if they are whole.

    Raises:
      RuntimeError: there is a NaN: some run had too few steps for its episodes.
    """
    arrays = jax.tree.map(np.asarray, arrays)
    if any(np.isnan(x).any() for x in jax.tree.leaves(arrays)):
        raise RuntimeError("some run ended before it had all of its episodes.")
    return arrays


# Figures 6.3 and 6.4: the cliff.


def _exploring_return(q_values: jax.Array) -> float:
    """J of ε-greedy on these values, from the model."""
    policy = jax.vmap(lambda row: RULE.probabilities(row, (), jnp.int32(0)))(q_values)
    mdp = CLIFF.to_mdp()
    values = planning.policy_evaluation(mdp, policy, 1.0).values
    return float(planning.initial_value(mdp, values))


def _best_exploring_return() -> float:
    """The largest J of all policies that explore: planned where each action goes astray
    with probability ε."""
    mdp, epsilon = CLIFF.to_mdp(), RULE.epsilon

    def astray(x):
        return (1 - epsilon) * x + epsilon * x.mean(1, keepdims=True)

    blurred = rljax.MDP(
        astray(mdp.transitions), astray(mdp.rewards), mdp.terminal, mdp.initial
    )
    values = planning.policy_iteration(blurred, 1.0).values
    return float(planning.initial_value(mdp, values))


def _by_step_size(kind: type, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean returns [α, N] of the first 100 episodes, and of those in the second half of
    all steps."""
    num_seeds, num_updates = (120, 1600) if quick else (400, 3000)

    def run(step_size, key):
        agent = kind(step_size=step_size, discount=1.0, rollout_length=SHORTEST)
        _, metrics = rljax.train(agent, CLIFF, key, num_updates=num_updates)
        late = jax.tree.map(lambda x: jnp.sum(x[num_updates // 2 :]), metrics)
        return first_episodes(metrics, 100)[0].mean(), late.episode_return

    step_sizes = jnp.repeat(jnp.asarray(STEP_SIZES, float), num_seeds)
    all_keys = keys(num_seeds)[jnp.arange(len(step_sizes)) % num_seeds]
    means = on_host(parallel.map_seeds(run, batch_size=600)(step_sizes, all_keys))
    interim, late = (x.reshape(len(STEP_SIZES), num_seeds) for x in means)
    return interim, late


def figure_6_3(*, quick: bool = False) -> common.Drawn:
    """Interim and asymptotic returns on the cliff against the step size.

    The book's asymptotic ones are of 100,000 episodes in 10 runs; here they are of the
    later half of 39,000 steps, some 1,000 episodes, in 400 runs.
    """
    kinds = {
        "Expected Sarsa": rljax.ExpectedSarsa,
        "Sarsa": rljax.Sarsa,
        "Q-learning": rljax.QLearning,
    }
    found = {name: _by_step_size(kind, quick) for name, kind in kinds.items()}
    panels = {
        title: [
            common.mean_curve(name, STEP_SIZES, means[i].T)
            for name, means in found.items()
        ]
        for i, title in enumerate(("first 100 episodes", "in the long run"))
    }
    picture = common.plot(panels, "step size α", "return of an episode", ylim=(-165, 0))
    return common.Drawn(panels, _statements_6_3(*found.values()), picture)


def _statements_6_3(expected, sarsa, q_learning) -> list[common.Statement]:
    """What §6.6 says, of means (first 100 episodes, long run), each [α, N]."""
    plan = planning.policy_iteration(CLIFF.to_mdp(), 1.0)
    best, cliff = _best_exploring_return(), _exploring_return(plan.q_values)

    def at_each(text, differences):
        return weakest(common.above(text, row) for row in differences)

    return [
        at_each(
            "Expected Sarsa earns more than Sarsa over 100 episodes at every α "
            "(shown: the weakest)",
            expected[0] - sarsa[0],
        ),
        at_each(
            "Q-learning earns less than Expected Sarsa over 100 episodes at every α",
            expected[0] - q_learning[0],
        ),
        at_each(
            "Q-learning earns less than Sarsa over 100 episodes at every α up to 0.9",
            (sarsa[0] - q_learning[0])[:-1],
        ),
        common.covers(
            "In the long run Expected Sarsa with α from 0.5 to 1 earns what the best "
            f"ε-greedy policy does, {best:.2f} as planned",
            expected[1][4:].mean(0),
            best,
        ),
        common.covers(
            "In the long run Q-learning with α = 1 earns what ε-greedy does on optimal "
            f"values, {cliff:.2f} as planned",
            q_learning[1][-1],
            cliff,
        ),
        common.above(
            "In the long run Sarsa with α = 1 falls below Q-learning",
            (q_learning[1] - sarsa[1])[-1],
        ),
        common.above(
            "In the long run Sarsa earns more with α = 0.1 than with 0.5",
            sarsa[1][0] - sarsa[1][4],
        ),
        common.above(
            "Over 100 episodes Sarsa earns less with α = 0.1 than with 0.5",
            sarsa[0][4] - sarsa[0][0],
        ),
    ]


def figure_6_4(*, quick: bool = False) -> common.Drawn:
    """Example 6.6: what Sarsa and Q-learning earn in each episode on the cliff.

    The drawing has no number of its own in the second edition, where figure 6.4 is the
    table of Q-learning. Nor does it give a step size: here α = 0.5, with which Sarsa's
    values never settle, and a part of its greedy paths lead in circles. The curves are
    means of five episodes each.
    """
    size = (200, 1500) if quick else (2000, 2000)
    (sarsa, safe), (q_learning, edge) = (
        _returns(kind, *size) for kind in (rljax.Sarsa, rljax.QLearning)
    )
    fives = np.arange(3, 500, 5)
    panels = {
        "Example 6.6": [
            common.mean_curve(name, fives, earned.reshape(size[0], -1, 5).mean(2))
            for name, earned in (("Sarsa", sarsa), ("Q-learning", q_learning))
        ]
    }
    picture = common.plot(panels, "episode", "sum of rewards", ylim=(-105, -15))
    best = "Q-learning's greedy path is the optimal one, −13, in every run"
    most = "Sarsa's greedy path is the safe one along the top, −17, in most runs"
    few = "Sarsa's greedy path is the optimal one in less than 10 % of runs"
    late = "Sarsa earns more than Q-learning in episodes 401 to 500"
    statements = [
        common.equal(best, edge, -13, 0.0),
        common.above(most, safe == -17, 0.5),
        common.below(few, safe == -13, 0.1),
        common.above(late, (sarsa - q_learning)[:, -100:].mean(1)),
    ]
    return common.Drawn(panels, statements, picture)


def _returns(kind: Any, num_seeds: int, num_updates: int) -> Any:
    """Returns of the first 500 episodes [N, 500], and of the greedy path then [N]."""
    agent = kind(step_size=0.5, discount=1.0, rollout_length=SHORTEST)

    def run(key):
        state, metrics = rljax.train(agent, CLIFF, key, num_updates=num_updates)
        path = rljax.evaluate(
            agent, state.agent_state, CLIFF, key, num_episodes=1, max_steps=100
        )
        return first_episodes(metrics, 500)[0], path.episode_returns[0]

    return on_host(parallel.map_seeds(run)(keys(num_seeds)))


# Figure 6.5: the maximisation bias.


@struct.dataclass
class _MaximisationBias(rljax.Env):
    """From A (0), action 0 goes right to the end and 1 left to B (1), where all end.

    Rewards are 0 from A and N(−0.1, 1) from B. There are ten actions in B.

    Source: Sutton and Barto (2018), example 6.7.
    """

    @property
    def observation_space(self) -> spaces.Discrete:
        return spaces.Discrete(2)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(10)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.int32(0), jnp.int32(0)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        return random.normal(key, shape)

    def advance(self, state: jax.Array, action: jax.Array, noise: jax.Array) -> Any:
        left = (state == 0) & (action == 1)
        reward = jnp.where(state == 1, noise - 0.1, 0)
        obs = left.astype(jnp.int32)
        return obs, rljax.TimeStep(obs, reward, ~left, jnp.zeros((), bool))


@struct.dataclass
class _AmongPossible:
    """ε-greedy among the actions whose value is not −∞; ties are broken at random."""

    epsilon: float = 0.1
    uses_counts = False

    def draw(self, num_actions: int, shape: tuple[int, ...], key: jax.Array) -> Any:
        return random.uniform(key, shape)

    def select(self, q_values: Any, counts: Any, step: Any, noise: Any) -> jax.Array:
        return distributions.quantile(self.probabilities(q_values, counts, step), noise)

    def probabilities(self, q_values: Any, counts: Any, step: Any) -> jax.Array:
        possible, best = q_values > -jnp.inf, q_values == jnp.max(q_values)
        uniform, greedy = (x / jnp.sum(x) for x in (possible, best))
        return self.epsilon * uniform + (1 - self.epsilon) * greedy


def _lefts(kind: type, num_seeds: int, num_episodes: int) -> np.ndarray:
    """Whether each of the first episodes went left, [N, K]."""
    env = _MaximisationBias()
    agent = kind(discount=1.0, exploration=_AmongPossible(), rollout_length=1)
    # In A there are two actions: the other eight have the value −∞.
    missing = np.array([[False] * 2 + [True] * 8, [False] * 10])

    def run(key):
        state = rljax.init_train(agent, env, key)
        table = state.agent_state.q_values
        table = jnp.where(np.tile(missing, (len(table) // 2, 1)), -jnp.inf, table)
        state = state._replace(agent_state=state.agent_state._replace(q_values=table))
        length = 2 * num_episodes
        _, metrics = rljax.train_steps(agent, env, state, num_updates=length)
        return first_episodes(metrics, num_episodes)[1]

    return on_host(parallel.map_seeds(run, batch_size=1000)(keys(num_seeds))) == 2


def figure_6_5(*, quick: bool = False) -> common.Drawn:
    """How often Q-learning and double Q-learning go left, where right is better."""
    num_seeds, num_episodes = 2000 if quick else 10_000, 300
    single, double = (
        _lefts(kind, num_seeds, num_episodes)
        for kind in (rljax.QLearning, rljax.DoubleQLearning)
    )
    best = _AmongPossible().probabilities(jnp.array([0, -0.1]), (), 0)[1]
    shown = np.r_[:100, 101:num_episodes:2]
    curves = [
        common.mean_curve("Q-learning", shown + 1, single[:, shown]),
        common.mean_curve("double Q-learning", shown + 1, double[:, shown]),
        common.exact_curve("optimum", shown + 1, np.full(shown.shape, best)),
    ]
    panels = {"Example 6.7": curves}
    picture = common.plot(panels, "episode", "share that goes left", ylim=(0, 1))
    return common.Drawn(panels, _statements_6_5(single, double, best), picture)


def _statements_6_5(
    single: np.ndarray, double: np.ndarray, best: Any
) -> list[common.Statement]:
    """Of who goes left, [N, 300] bool, and how often the optimum does."""
    optimal = "At the optimum 5 % go left, all by exploration"
    early = "Q-learning goes left in more than 75 % of runs in episode 20"
    late = "Q-learning still goes left in more than 5 % of episodes 291 to 300"
    less = (
        "Double Q-learning goes left less often than Q-learning in any ten episodes, "
        "from the eleventh (shown: the weakest)"
    )
    gaps = (single.astype(float) - double).reshape(len(single), -1, 10).mean(2).T
    return [
        common.covers("Half of all first episodes go left", single[:, 0], 0.5),
        common.equal(optimal, best, 0.05, 1e-7),
        common.above(early, single[:, 19], 0.75),
        weakest(common.above(less, gap) for gap in gaps[1:]),
        common.above(late, single[:, -10:].mean(1), 0.05),
    ]


FIGURES = [
    common.Figure("6.3", "Three methods on the cliff, by step size", figure_6_3),
    common.Figure("6.4", "Sarsa and Q-learning on the cliff", figure_6_4),
    common.Figure("6.5", "The bias of a maximum", figure_6_5),
]
