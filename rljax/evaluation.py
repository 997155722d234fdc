"""Evaluation: whole episodes of the greedy or of the exploring policy."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rljax import checks, contract, display, random, returns, struct
from rljax.types import Agent, Best, EnvLike, TrainState, without_buffers


@struct.dataclass
class Evaluation:
    """One entry per episode, each leaf [num_episodes]."""

    episode_returns: jax.Array
    """Undiscounted returns, floating."""
    episode_lengths: jax.Array
    """Steps, int32."""
    finished: jax.Array
    """bool: False where `max_steps` stopped an episode that the environment had not."""
    greedy: bool = struct.static(default=True)
    """Whether the greedy policy played, or else the one that explores in training."""

    __repr__ = display.text
    _repr_html_ = display.html


class Episode(NamedTuple):
    """One episode, step by step, T steps in all."""

    env_states: Any
    """[T + 1, …] the environment's states, from the one after the reset to the last."""
    actions: Any
    """[T, …]"""
    rewards: jax.Array
    """[T] floating."""
    finished: bool
    """False where `max_steps` stopped an episode that the environment had not."""

    __repr__ = display.text
    _repr_html_ = display.html


def evaluate(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    key: jax.Array,
    *,
    num_episodes: int,
    max_steps: int = 10_000,
    greedy: bool = True,
) -> Evaluation:
    """Plays `num_episodes` whole episodes side by side, and learns nothing from them.

    The greedy policy is `agent.greedy`. With `greedy=False` the agent acts as it does
    in training, by `agent.decide`: an actor samples, a table explores. The two differ,
    often by much: the return of a softmax policy is that of its samples, and the
    objective of RLHF is an expectation over them.

    Every episode starts with a reset and counts once, however short, so the mean is not
    biased towards short episodes.

    Args:
      agent: learning rule, the one of training.
      agent_state: from training, `train_state.agent_state`. What `agent.learned` gives
        of it must have the shapes that `agent.init` makes in this environment.
      env: environment, not necessarily the one of training.
      key: random key.
      num_episodes: 1 or more.
      max_steps: steps after which an episode is given up, for environments without a
        limit of their own.
      greedy: whether the greedy policy plays, or else the one that explores.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    max_steps = _check(agent, agent_state, env, key, max_steps, greedy)
    num_episodes = checks.integer("num_episodes", num_episodes, minimum=1)
    return _evaluate(agent, agent_state, env, key, num_episodes, max_steps, greedy)


def play_episode(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    key: jax.Array,
    *,
    max_steps: int = 10_000,
    greedy: bool = True,
) -> Episode:
    """Plays the episode that `evaluate` plays, and returns its steps.

    That is, with the same key and `num_episodes=1`. As there are as many steps as the
    episode has, this is for looking at one, and can't be called under jit or vmap.
    While it runs, it takes memory for `max_steps` steps.

    Args:
      agent: learning rule, the one of training.
      agent_state: from training, `train_state.agent_state`.
      env: environment, not necessarily the one of training.
      key: random key.
      max_steps: steps after which the episode is given up.
      greedy: whether the greedy policy plays, or else the one that explores.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    max_steps = _check(agent, agent_state, env, key, max_steps, greedy)
    played = _play(agent, agent_state, env, key, max_steps, greedy)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(played)):
        raise TypeError(
            "play_episode returns as many steps as the episode has, so it can't be "
            "traced. Call it outside of jit and vmap, or use rljax.evaluate."
        )
    (env_states, actions, rewards), length, done = jax.device_get(played)
    return Episode(
        jax.tree.map(lambda x: x[: length + 1], env_states),
        jax.tree.map(lambda x: x[:length], actions),
        rewards[:length],
        bool(done),
    )


def _check(agent, agent_state, env, key, max_steps, greedy) -> int:
    """Raises unless these are what their names say; returns `max_steps` as an int."""
    contract.require(agent, env, key)
    if isinstance(agent_state, TrainState):
        raise TypeError(
            "agent_state must be the agent's own state, got a TrainState: pass "
            "train_state.agent_state."
        )
    if not isinstance(greedy, bool):
        raise TypeError(f"greedy must be True or False, got {greedy!r}.")
    return checks.integer("max_steps", max_steps, minimum=1, maximum=checks.LARGEST_INT)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _evaluate(agent, agent_state, env, key, num_episodes, max_steps, greedy):
    _check_agent_state(agent, agent_state, env, key)

    def episode(key):
        start, running, step = _episode(agent, agent_state, env, key, max_steps, greedy)
        *_, episode_return, length, done = jax.lax.while_loop(
            running, lambda carry: step(carry)[0], start
        )
        return Evaluation(episode_return.value, length, done, greedy)

    return jax.vmap(episode)(random.split(key, num_episodes))


@functools.partial(jax.jit, static_argnums=(4, 5))
def _play(agent, agent_state, env, key, max_steps, greedy):
    """((env_states, actions, rewards), length, done), with room for all steps."""
    _check_agent_state(agent, agent_state, env, key)
    (key,) = random.split(key, 1)
    start, running, step = _episode(agent, agent_state, env, key, max_steps, greedy)
    # The room for states is filled with copies: of a random key there are no zeros.
    env_states = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (max_steps + 1, *jnp.shape(x))), start[0]
    )
    actions, rewards = jax.tree.map(
        lambda x: jnp.zeros((max_steps, *x.shape), x.dtype),
        jax.eval_shape(step, start)[1],
    )

    def record(carry_and_seen):
        carry, (env_states, *steps) = carry_and_seen
        *_, length, _ = carry
        carry, taken = step(carry)
        env_states = jax.tree.map(
            lambda all_, x: all_.at[length + 1].set(x), env_states, carry[0]
        )
        steps = jax.tree.map(
            lambda all_, x: all_.at[length].set(x), tuple(steps), taken
        )
        return carry, (env_states, *steps)

    (*_, length, done), seen = jax.lax.while_loop(
        lambda carry_and_seen: running(carry_and_seen[0]),
        record,
        (start, (env_states, actions, rewards)),
    )
    return seen, length, done


def _episode(agent, agent_state, env, key, max_steps, greedy):
    """One episode as a loop: what it carries at first, whether it goes on, its step.

    Returns:
      (start, running, step). Carried are (env_state, obs, memory, episode_return,
      length, done); `step(carry)` is (carry, (action, reward)).
    """
    key_reset, key_steps = jax.random.split(key)
    env_state, obs = contract.reset(env, key_reset)
    memory = agent.init_memory(agent_state)
    # A third stream beside the two above, not drawn by a greedy policy.
    key_act = jax.random.fold_in(key, 2)

    def decide(obs, memory, length):
        if greedy:
            return agent.decide_greedily(agent_state, obs, memory)
        noise = agent.draw(agent_state, (), jax.random.fold_in(key_act, length))
        decided = contract.decide(agent, agent_state, obs, noise, memory)
        return decided[0], decided[2]

    action = jax.eval_shape(decide, obs, memory, jnp.zeros((), jnp.int32))[0]
    shape = jax.tree.map(jnp.shape, action)
    if shape != env.action_space.shape:
        raise ValueError(
            f"agent.{'greedy' if greedy else 'act'} returns actions of shape "
            f"{shape}, the environment takes {env.action_space.shape}."
        )

    def running(carry):
        *_, length, done = carry
        return ~done & (length < max_steps)

    def step(carry):
        env_state, obs, memory, episode_return, length, _ = carry
        action, memory = decide(obs, memory, length)
        # The key is folded in rather than carried, so that the compiler can drop it
        # where the environment is deterministic.
        noise = contract.draw_noise(env, (), jax.random.fold_in(key_steps, length))
        env_state, time_step = contract.advance(env, env_state, action, noise)
        done = time_step.terminated | time_step.truncated
        episode_return = episode_return.add(time_step.reward)
        carry = env_state, time_step.obs, memory, episode_return, length + 1, done
        return carry, (action, time_step.reward)

    start = (returns.empty_sum(), jnp.zeros((), jnp.int32), jnp.bool_(False))
    return (env_state, obs, memory, *start), running, step


def _check_agent_state(agent, agent_state, env, key):
    """Raises unless the learned part of `agent_state` is of this agent and environment.

    Otherwise a table would be read beyond its end, where JAX returns its last row.
    """
    who = f"{type(agent).__name__}.init on this environment"
    remedy = (
        "Was it trained by another agent or on another environment? If it holds "
        "several seeds, vmap: jax.vmap(lambda s, k: rljax.evaluate(agent, s, env, k, "
        "…))(states, keys)"
    )
    made = jax.eval_shape(agent.init, key, env)
    if not jax.tree_util.all_leaves([made]) and type(agent_state) is not type(made):
        raise TypeError(
            f"agent_state must have the type {type(made).__name__} that {who} makes, "
            f"got a {type(agent_state).__name__}. {remedy}."
        )
    expected, given = agent.learned(made), agent.learned(agent_state)
    if jax.tree.structure(given) != jax.tree.structure(expected):
        raise TypeError(
            f"agent_state must have the structure that {who} makes, "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(given)}. "
            f"{remedy}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(given)
    for (path, leaf), shape in zip(leaves, jax.tree.leaves(expected), strict=True):
        if jnp.shape(leaf) != shape.shape:
            raise ValueError(
                f"agent_state{jax.tree_util.keystr(path)} must have the shape "
                f"{shape.shape} that {who} gives it, got {jnp.shape(leaf)}. {remedy}."
            )


@dataclasses.dataclass(frozen=True)
class KeepBest:
    """Keeps the best agent state of a training, as the last one may be a bad one.

    With a constant step size, a policy that has solved its task may lose it again for a
    while. After every `every`-th update the agent is scored, by the mean return of
    `num_episodes` fresh episodes or by a function. The state with the highest score is
    kept, of equal scores the latest:

        state, _ = rljax.train(…, keep_best=rljax.KeepBest(every=10))
        rljax.evaluate(agent, state.best.agent_state, env, key, num_episodes=100)

    The highest of many noisy scores is too high on average, so the state that is kept
    has to be judged anew, on other episodes, as in the second line.

    Raises:
      TypeError, ValueError: a setting is wrong; the message names it.
    """

    every: int = 10
    """Updates from one score to the next."""
    num_episodes: int = 32
    """Episodes of a score."""
    max_steps: int = 10_000
    """Steps after which such an episode is given up."""
    greedy: bool = True
    """Whether the greedy policy plays them, or else the one that explores."""
    score: Callable[[Any, Any, Any], jax.Array] | None = None
    """A function of (agent, env, agent_state), [] floating, in the place of episodes;
    the higher, the better. Such as an exact return."""

    def __post_init__(self):
        checks.ints(self, "every", "num_episodes", "max_steps", minimum=1)
        checks.bools(self, "greedy")
        if self.score is not None and not callable(self.score):
            raise TypeError(
                "KeepBest.score must be a function of (agent, env, agent_state), got "
                f"{self.score!r}."
            )

    def start(self, train_state: TrainState) -> TrainState:
        """The state of a training that has kept nothing yet; goes on if it has."""
        if train_state.best != ():
            return train_state
        agent_state = without_buffers(train_state.agent_state)
        score = jnp.full((), -jnp.inf, jnp.result_type(float))
        best = Best(agent_state, score, jnp.zeros((), jnp.int32))
        return train_state._replace(best=best)

    def update(
        self, agent: Agent, env: EnvLike, train_state: TrainState, num_updates: Any
    ) -> TrainState:
        """The state after an update, scored if `num_updates` is a multiple of `every`.

        `num_updates` must not be vmapped: all runs would be scored in every update.
        """

        def compare(best):
            agent_state = train_state.agent_state
            if self.score is None:
                # `train_step` splits the state's key into four: this is a fifth stream.
                key = jax.random.fold_in(train_state.key, 4)
                score = jnp.mean(self._returns(agent, agent_state, env, key))
            else:
                score = self.score(agent, env, agent_state)
            score = jnp.asarray(score, best.score.dtype)
            number = jnp.asarray(num_updates, jnp.int32)
            new = Best(without_buffers(agent_state), score, number)
            return jax.tree.map(
                lambda a, b: jnp.where(score >= best.score, a, b), new, best
            )

        due = num_updates % self.every == 0
        best = jax.lax.cond(due, compare, lambda best: best, train_state.best)
        return train_state._replace(best=best)

    def _returns(self, agent, agent_state, env, key):
        return evaluate(
            agent,
            agent_state,
            env,
            key,
            num_episodes=self.num_episodes,
            max_steps=self.max_steps,
            greedy=self.greedy,
        ).episode_returns
