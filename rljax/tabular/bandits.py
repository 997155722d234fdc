"""Tabular agents on bandits: one bandit pull by pull, or thousands at once."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, contract, parallel, random, rollout
from rljax.envs.bandit import Bandit
from rljax.tabular import exploration
from rljax.tabular.agent import TabularAgent
from rljax.types import EnvLike, RolloutPlan, Transition


class Pulls(NamedTuple):
    """What happened on one bandit, each leaf [num_pulls]."""

    actions: jax.Array
    """int32: the arm pulled."""
    rewards: jax.Array
    """Floating: the reward it paid."""
    gaps: jax.Array
    """Floating: max_a μ_a − μ_pulled at that time, 0 or more."""
    best_means: jax.Array
    """Floating: max_a μ_a at that time."""

    @property
    def expected_regret(self) -> jax.Array:
        """Σ_{i≤t} (max_a μ_a − μ_{a_i}), [num_pulls]: the pseudo-regret."""
        return jnp.cumsum(self.gaps, axis=-1)

    @property
    def realised_regret(self) -> jax.Array:
        """Σ_{i≤t} (max_a μ_a − r_i), [num_pulls]: includes the noise of the rewards."""
        return jnp.cumsum(self.best_means - self.rewards, axis=-1)

    @property
    def optimal(self) -> jax.Array:
        """[num_pulls] bool: whether a best arm was pulled."""
        return self.gaps == 0


def play_bandit(
    agent: TabularAgent, env: EnvLike, key: jax.Array, *, num_pulls: int
) -> tuple[Any, Pulls]:
    """Plays one bandit with an untrained agent. For many bandits, vmap over keys.

    Args:
      agent: a tabular agent with num_envs = 1, and with discount = 0 because the one
        state of a bandit never ends.
      env: a bandit.
      key: random key, which draws the bandit as well.
      num_pulls: number of pulls, at least 1.

    Returns:
      The agent's final state, and what happened at each pull.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    num_pulls = _checked(agent, env, key, num_pulls)
    agent_state, (pulls, _) = _play_bandit(agent, env, key, num_pulls)
    return agent_state, pulls


class Watched(NamedTuple):
    """What happened on one bandit, how its arms were, and what the agent learned."""

    pulls: Pulls
    """As `play_bandit` returns them."""
    means: jax.Array
    """[num_pulls, A] floating: the arms' means at the time of each pull."""
    agent_states: Any
    """The agent's state after each pull, leaves [num_pulls, …]."""


def watch_bandit(
    agent: TabularAgent, env: EnvLike, key: jax.Array, *, num_pulls: int
) -> Watched:
    """`play_bandit` for whoever wants to see it pull by pull.

    The pulls are those of `play_bandit` with the same arguments, bit for bit. The agent
    learns from them once more, so the last of its states is that of `play_bandit` up to
    rounding. All of them are kept: of a table that is 8 bytes for each pull and arm.

    Raises:
      TypeError, ValueError: as `play_bandit`.
    """
    num_pulls = _checked(agent, env, key, num_pulls)
    _, (pulls, means) = _play_bandit(agent, env, key, num_pulls)
    return Watched(pulls, means, _learned_from(agent, env, key, pulls))


@jax.jit
def _learned_from(agent, env, key, pulls):
    """The agent's states after each pull: it learns from them once more.

    Recorded while it plays, they would make XLA round rewards otherwise than it does in
    `play_bandit`.
    """
    key_agent, key_reset, _ = _split_play_key(key)
    _, obs = env.reset(key_reset)
    never = jnp.zeros((), bool)

    def learn(agent_state, pull):
        step = Transition(obs, pull.actions, pull.rewards, never, never, obs, ())
        trajectory = jax.tree.map(lambda x: x[None, None], step)
        agent_state, _ = agent.update(agent_state, trajectory, key)
        return agent_state, agent_state

    return jax.lax.scan(learn, agent.init(key_agent, env), pulls)[1]


def _checked(agent: Any, env: Any, key: Any, num_pulls: Any) -> int:
    """The number of pulls, where all arguments are right."""
    contract.require(agent, env, key)
    if not isinstance(agent, TabularAgent) or agent.num_envs != 1:
        raise TypeError(
            "agent must be a tabular agent with num_envs = 1, such as "
            f"rljax.QLearning(discount=0.0, step_size=None), got {agent!r}."
        )
    if not isinstance(agent.discount, Tracer) and agent.discount != 0:
        raise ValueError(
            f"agent.discount must be 0 on a bandit, got {agent.discount}: its one "
            "state never ends, and a pull would be worth all pulls after it."
        )
    if not isinstance(env, Bandit):
        raise TypeError(
            "env must be a bandit such as rljax.GaussianBandit(), whose state has the "
            f"arms' means, got {type(env).__name__}."
        )
    for rule in agent.rules:
        if exploration.assumes_unit_means(rule) and not env.pays_unit_rewards:
            raise ValueError(
                f"{rule!r} is for rewards in [0, 1], which those of {env!r} are not. "
                "For normal rewards take KLUCB(noise_scale=σ) or ThompsonGaussian."
            )
    return checks.integer("num_pulls", num_pulls, minimum=1)


@functools.partial(jax.jit, static_argnums=3)
def _play_bandit(agent, env, key, num_pulls):
    """The agent's last state, the pulls, and the arms' means at each."""

    def record(env_state: Any, transition: Transition) -> Any:
        means = env_state.means
        best = jnp.max(means)
        gap = best - means[transition.action]
        return Pulls(transition.action, transition.reward, gap, best), means

    key_agent, key_reset, key_play = _split_play_key(key)
    start = jax.tree.map(lambda x: x[None], rollout.start(env, key_reset))
    block = _block_length(num_pulls)

    plan = RolloutPlan(1, block, update_every=1)

    def play(carry, keys):
        agent_state, rollout_state = carry
        done = rollout.interact(
            agent, agent_state, env, rollout_state, *keys, plan=plan, record=record
        )
        return (done.agent_state, done.rollout_state), done.records

    # The keys of updates are a fourth stream. Tables use none, so it is never drawn.
    key_update = jax.random.fold_in(key, 3)
    keys = (random.split(k, num_pulls // block) for k in (key_play, key_update))
    carry = (agent.init(key_agent, env), start)
    (agent_state, _), seen = jax.lax.scan(play, carry, tuple(keys))
    # From [blocks, pulls of one, 1 environment, …].
    return agent_state, jax.tree.map(lambda x: x.reshape(num_pulls, *x.shape[3:]), seen)


def _split_play_key(key: jax.Array) -> jax.Array:
    return random.split(key, 3)


def _block_length(num_pulls: int) -> int:
    """The number of pulls whose noise is drawn at once, a divisor of `num_pulls`.

    It is at most 128, so that the noise stays in a CPU's cache: with 10,000 bandits
    side by side, blocks of 100 pulls took 0.7 of the time of blocks of 1000. Without a
    divisor from 32 to 128, all pulls are one block.
    """
    block = max(n for n in range(1, 129) if num_pulls % n == 0)
    return block if block >= 32 else num_pulls


class BanditCurves(NamedTuple):
    """Curves of one rule with G settings on B bandits at K times, as NumPy arrays."""

    pulls: np.ndarray
    """[K] integers: number of pulls done."""
    expected_regret: np.ndarray
    """[B, G, K] floating: Σ (max_a μ_a − μ_pulled), the pseudo-regret."""
    realised_regret: np.ndarray
    """[B, G, K] floating: Σ (max_a μ_a − r)."""
    optimal_pulls: np.ndarray
    """[B, G, K] integers: number of pulls of a best arm so far."""


def compare_bandits(
    agents: Mapping[str, Sequence[TabularAgent]],
    env: EnvLike,
    key: jax.Array,
    *,
    num_bandits: int,
    num_pulls: int,
    num_points: int = 100,
) -> tuple[dict[str, BanditCurves], np.ndarray]:
    """Plays all agents on the same bandits, in a program sharded over local devices.

    All agents meet the same bandits, with the same noise at the k-th pull, so their
    differences are much less noisy than their values. A call with other numbers in the
    agents or the bandit compiles nothing anew. It needs 12 bytes of memory for each
    bandit, agent and point, and 16 for each bandit and pull.

    Args:
      agents: for each name, agents that differ only in numbers: settings of one rule.
      env: a bandit.
      key: random key.
      num_bandits: B, at least 1.
      num_pulls: pulls of each agent on each bandit.
      num_points: K evenly spaced times at which curves are kept, at most num_pulls.

    Returns:
      The curves by name, and the initial means of the bandits, [B, A].

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    checks.key(key)
    if not isinstance(agents, Mapping) or not all(isinstance(n, str) for n in agents):
        raise TypeError(
            "agents must be a dictionary of lists of agents by name, got "
            f"{type(agents).__name__}: {agents!r}."
        )
    num_bandits = checks.integer("num_bandits", num_bandits, minimum=1)
    num_pulls = checks.integer("num_pulls", num_pulls, minimum=1)
    num_points = checks.integer("num_points", num_points, minimum=1)
    for agent in itertools.chain.from_iterable(agents.values()):
        _checked(agent, env, key, num_pulls)
    stacked = {name: _stacked(name, settings) for name, settings in agents.items()}
    layout = parallel.lay_out(num_bandits, devices=jax.local_devices())
    keys = jax.random.split(key, num_bandits)
    keys = keys[np.minimum(np.arange(layout.num_padded), num_bandits - 1)]
    at = np.linspace(0, num_pulls, min(num_points, num_pulls) + 1).astype(int)[1:] - 1
    compare = _comparison(layout, num_pulls, tuple(at.tolist()))
    curves, means = jax.device_get(compare((stacked, env), keys))
    curves, means = jax.tree.map(lambda x: x[:num_bandits], (curves, means))
    # Restores the order of `agents`: jitted functions return dicts sorted by name.
    return {name: BanditCurves(at + 1, *curves[name]) for name in agents}, means


@functools.lru_cache(maxsize=16)
def _comparison(layout: parallel.Layout, num_pulls: int, times: tuple) -> Any:
    """The jitted program of `compare_bandits`; times are pulls counted from 0."""
    at = np.array(times)

    def one_bandit(shared, key):
        agents, env = shared

        def play(agent):
            _, pulls = play_bandit(agent, env, key, num_pulls=num_pulls)
            optimal = jnp.cumsum(pulls.optimal, dtype=jnp.int32)
            curves = (pulls.expected_regret, pulls.realised_regret, optimal)
            return tuple(curve[at] for curve in curves)

        # One setting after another: memory holds the pulls of one at a time.
        curves = {
            name: jax.lax.map(play, settings) for name, settings in agents.items()
        }
        # play_bandit resets with this key, so these are the bandits that were played.
        env_state, _ = env.reset(_split_play_key(key)[1])
        return curves, env_state.means

    return jax.jit(layout.map(one_bandit))


def _stacked(name: str, agents: Sequence[Any]) -> Any:
    if len({jax.tree.structure(agent) for agent in agents}) != 1:
        raise ValueError(
            f"agents[{name!r}] must be agents that differ in nothing but numbers, at "
            f"least one, got {agents!r}. Give other rules names of their own."
        )
    return jax.tree.map(lambda *leaves: jnp.asarray(leaves), *agents)


def lai_robbins(
    means: jax.Array, *, noise_scale: jax.typing.ArrayLike | None = None
) -> jax.Array:
    """The least slope of expected regret over ln t that a policy can have.

        liminf R_t / ln t ≥ Σ_{a: μ_a < μ*} (μ* − μ_a) / KL(μ_a, μ*)

    where KL is that of two Bernoulli distributions, or (μ* − μ_a)² / 2σ² of two normal
    ones. The bound holds for every uniformly good policy: one whose regret on any such
    bandit grows more slowly than every power t^ε, ε > 0.

    Args:
      means: [..., A] the arms' means; in [0, 1] without noise_scale.
      noise_scale: σ of normal rewards; None: Bernoulli rewards.

    Returns:
      [...] the slope; 0 where all arms are best.

    Raises:
      ValueError: a mean is not finite or, without noise_scale, not in [0, 1].

    Source: Lai and Robbins (1985); Lattimore and Szepesvári (2020), §16.
    """
    means = jnp.asarray(checks.rows(means=means), jnp.result_type(float))
    noise_scale = checks.scalar(
        0.0, open_minimum=True, optional=True, noise_scale=noise_scale
    )
    if not isinstance(means, Tracer):
        inside = jnp.isfinite(means)
        if noise_scale is None:
            inside &= (means >= 0) & (means <= 1)
        if not inside.all():
            raise ValueError(
                f"means must be finite{', in [0, 1]' if noise_scale is None else ''}, "
                f"got {means}. For normal rewards pass noise_scale."
            )
    best = jnp.max(means, axis=-1, keepdims=True)
    gaps = best - means
    if noise_scale is not None:
        divergence = gaps**2 / (2 * jnp.square(noise_scale))
    else:
        divergence = exploration.bernoulli_kl(means, gaps)
    terms = jnp.where(gaps > 0, gaps / jnp.where(gaps > 0, divergence, 1), 0)
    return jnp.sum(terms, axis=-1)
