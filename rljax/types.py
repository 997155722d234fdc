"""The data that flows between environments and agents, and their two contracts.

Shape letters: T time, N environments side by side, B batch, S states, A actions,
D features. A field's shape is for one environment; a trajectory is a `Transition` whose
leaves have a leading [T], or [T, N] for several environments.
"""

import abc
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from rljax import display, random, spaces
from rljax.mdp import MDP, SparseTransitions

__all__ = [
    "MDP",
    "Agent",
    "Best",
    "Buffer",
    "Env",
    "EnvLike",
    "RolloutPlan",
    "SparseTransitions",
    "TimeStep",
    "TrainState",
    "Transition",
    "is_buffer",
    "without_buffers",
]


class TimeStep(NamedTuple):
    """What `env.step` returns beside the new state.

    An episode is done when `terminated | truncated`; that is never stored.
    """

    obs: Any
    """True successor observation s_{t+1}, also when the episode ended here."""
    reward: jax.Array
    """r_t, [] floating."""
    terminated: jax.Array
    """[] bool: the MDP ended; the value of `obs` is 0."""
    truncated: jax.Array
    """[] bool: a limit cut the episode; the value of `obs` still counts."""


class Transition(NamedTuple):
    """One step of experience; with leading [T] a trajectory."""

    obs: Any
    """s_t, what the agent saw."""
    action: Any
    """a_t, what it did."""
    reward: jax.Array
    """r_t, [] floating."""
    terminated: jax.Array
    """[] bool."""
    truncated: jax.Array
    """[] bool."""
    next_obs: Any
    """s_{t+1}, the true successor, never the observation after an automatic reset."""
    extras: Any
    """What `agent.act` returned beside the action."""


class TrainState(NamedTuple):
    """Everything that training carries from one update to the next."""

    agent_state: Any
    rollout_state: Any
    """`rollout.RolloutState`, leaves [num_envs, …]."""
    key: jax.Array
    best: Any = ()
    """`Best` where training keeps the best agent state, else ()."""

    __repr__ = display.text
    _repr_html_ = display.html


class Best(NamedTuple):
    """The agent state that scored best in training, and when."""

    agent_state: Any
    """Without the content of its `Buffer`s."""
    score: jax.Array
    """[] floating: the score that chose it, and that is therefore too high on average;
    −∞ before the first one."""
    num_updates: jax.Array
    """[] int32: updates done by then."""

    __repr__ = display.text
    _repr_html_ = display.html


@runtime_checkable
class EnvLike(Protocol):
    """The least that an environment must have: two spaces, `reset` and `step`.

    A plain dataclass with these four is an environment. What `Env` offers besides, the
    library does for it by the defaults written there. Observations of several arrays
    have a dictionary or tuple of spaces, such as {"image": Box(…), "speed": Box(…)},
    and an agent's `network` reads them.
    """

    @property
    @abc.abstractmethod
    def observation_space(self) -> Any:
        """What an observation may be: a space, or a tree of spaces."""

    @property
    @abc.abstractmethod
    def action_space(self) -> spaces.Space:
        """What an action may be."""

    @abc.abstractmethod
    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        """Starts an episode: (state, obs)."""

    @abc.abstractmethod
    def step(self, state: Any, action: Any, key: jax.Array) -> tuple[Any, TimeStep]:
        """Advances one step: (state, time step)."""


class Env(EnvLike):
    """An environment: a pytree of its physics with pure functions.

    Shapes and dtypes are fixed and strong, so all functions can be jitted, vmapped and
    scanned. `step` never resets: after a done step the caller starts anew with `reset`,
    and what `step` does beyond the end of an episode is undefined.

    A subclass defines the two spaces and `reset`, and then either `step`, or `draw` and
    `advance` together. The second form names the randomness that a step needs. Rollouts
    then draw the noise of all their steps at once, which costs far less than one key
    and one draw in every step.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls) and "advance" not in vars(cls):
            _refuse_unseen(cls, "step", "advance", cls.advance is Env.advance)

    def step(self, state: Any, action: Any, key: jax.Array) -> tuple[Any, TimeStep]:
        """Advances one step: (state, time step). Default: `advance` with new noise."""
        return self.advance(state, action, self.draw((), key))

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The randomness of steps, leaves [*shape, …]. Default: a key for each step."""
        return random.keys(key, shape)

    def advance(self, state: Any, action: Any, noise: Any) -> tuple[Any, TimeStep]:
        """`step` with one element of what `draw` returned. Default: `step` itself."""
        return self.step(state, action, noise)

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model of an environment with finitely many states.

        Args:
          sparse: whether the transitions are a list of outcomes instead of [S, A, S].

        Raises:
          TypeError: the environment can't enumerate itself, which is the default.
        """
        del sparse
        raise TypeError(
            f"{type(self).__name__} can't enumerate itself: it has no to_mdp. Define "
            "it, or pass a model of your own where one is asked for."
        )

    def render(self, state: Any, *, size: int = 400) -> np.ndarray:
        """A picture of a state, [H, W, 3] uint8, for people to look at.

        It is drawn on the host from the numbers of one state, so it can't be called
        under jit or vmap. All pictures of an environment have one shape.

        Args:
          state: as `reset` and `step` return it, not batched.
          size: about how many pixels the longer side has.

        Raises:
          TypeError: the environment has no picture, which is the default.
        """
        del state, size
        raise TypeError(
            f"{type(self).__name__} has no picture: it has no render. Derive it from "
            "rljax.Env and define render(state, *, size=400), which returns an array "
            "[H, W, 3] of uint8."
        )


class RolloutPlan(NamedTuple):
    """How an agent wants its experience gathered; one value, all of it static.

    One training update gathers `rollout_length` steps in each of `num_envs`
    environments. Within it, `agent.update` is called after every `update_every` steps,
    so that later steps act with what was learned from earlier ones.
    """

    num_envs: int
    """N, environments that are stepped side by side."""
    rollout_length: int
    """T, steps of each environment in one training update, one entry of the metrics."""
    update_every: int | None = None
    """Steps of each environment between two calls of `agent.update`, a divisor of
    `rollout_length`: 1 for tables, some for replay; None: all of them, one call."""
    fresh_episodes: bool = False
    """Whether all environments are reset before each training update, instead of going
    on where they stopped. Statistics then count the first episode of each alone."""
    group_size: int = 1
    """With fresh episodes: so many neighbouring environments begin with the same reset,
    to be compared. A divisor of `num_envs`."""

    @property
    def block(self) -> int:
        """Steps of each environment between two calls of `agent.update`."""
        return self.rollout_length if self.update_every is None else self.update_every

    @property
    def num_steps(self) -> int:
        """Environment steps in one training update, T × N."""
        return self.rollout_length * self.num_envs


class Buffer(NamedTuple):
    """Marks a part of an agent's state as large and not learned: a replay buffer, say.

    Training carries it like any other part and checkpoints save it. Sweeps neither look
    for NaN in it nor copy it from update to update, and leave it out of their results.
    """

    content: Any


def is_buffer(x: Any) -> bool:
    """Whether a node of a tree is a `Buffer`, to let a tree_map stop there."""
    return isinstance(x, Buffer)


def without_buffers(tree: Any) -> Any:
    """The tree with the content of each `Buffer` left out."""
    return jax.tree.map(
        lambda x: Buffer(()) if is_buffer(x) else x, tree, is_leaf=is_buffer
    )


class Agent(abc.ABC):
    """A learning rule: a pytree of hyperparameters with pure functions.

    `act` and `greedy` are for one observation; rollouts vmap them. A subclass has the
    fields `num_envs` and `rollout_length`, or says otherwise in `rollout_plan`. It
    defines `init`, `update`, and

    - `act` and `greedy`, which is all that most agents need;
    - or `draw` and `decide` instead of `act`, to name the random words of a decision:
      rollouts then draw those of all steps at once;
    - or, to remember what was seen before, `init_memory`, `decide` and
      `decide_greedily`. Rollouts and evaluation carry the memory from step to step and
      start it anew with each episode.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "act" in vars(cls) and "decide" not in vars(cls):
            _refuse_unseen(cls, "act", "decide", cls.decide is Agent.decide)
        if "greedy" in vars(cls) and "decide_greedily" not in vars(cls):
            is_default = cls.decide_greedily is Agent.decide_greedily
            _refuse_unseen(cls, "greedy", "decide_greedily", is_default)

    num_envs: int
    rollout_length: int

    @property
    def steps_per_update(self) -> int:
        """Environment steps in one training update: those of all environments."""
        return self.rollout_plan.num_steps

    @property
    def rollout_plan(self) -> RolloutPlan:
        """How many environments, how many steps between updates, how they start.

        Default: one update for `rollout_length` steps in each of `num_envs`
        environments, two fields that the agent then has.
        """
        return RolloutPlan(self.num_envs, self.rollout_length)

    @abc.abstractmethod
    def init(self, key: jax.Array, env: EnvLike) -> Any:
        """The untrained agent state for an environment."""

    @abc.abstractmethod
    def update(
        self, state: Any, trajectory: Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """One learning step: (state, metrics), the metrics floating scalars by name.

        Args:
          state: the agent state.
          trajectory: the steps since the last call, leaves [rollout_plan.block, N, …].
          key: random key.
        """

    def act(self, state: Any, obs: Any, key: jax.Array) -> tuple[Any, Any]:
        """An exploring action, and extras that `update` finds in the trajectory.

        Default: what `decide` does at the start of an episode.
        """
        noise, memory = self.draw(state, (), key), self.init_memory(state)
        return self.decide(state, obs, noise, memory)[:2]

    def greedy(self, state: Any, obs: Any) -> Any:
        """The action that the agent holds best.

        Default: what `decide_greedily` does at the start of an episode.
        """
        return self.decide_greedily(state, obs, self.init_memory(state))[0]

    def draw(self, state: Any, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The randomness of decisions, leaves [*shape, …]. Default: a key for each."""
        del state
        return random.keys(key, shape)

    def decide(
        self, state: Any, obs: Any, noise: Any, memory: Any = ()
    ) -> tuple[Any, Any, Any]:
        """`act` with one element of what `draw` returned, and with a memory.

        Returns:
          (action, extras, memory after the decision). Default: `act`, memory as it was.
        """
        return *self.act(state, obs, noise), memory

    def decide_greedily(self, state: Any, obs: Any, memory: Any) -> tuple[Any, Any]:
        """`greedy` with a memory: (action, memory). Default: memory as it was."""
        return self.greedy(state, obs), memory

    def init_memory(self, state: Any) -> Any:
        """What the agent remembers when an episode starts, for one environment.

        A tree of arrays with fixed shapes. Default: nothing, ().
        """
        del state
        return ()

    def whole_rollout(
        self, state: Any, env: EnvLike, start: Any, noise: Any, plain: Any
    ) -> Any:
        """All steps between two updates: `plain(self, state, env, start, noise)`.

        An agent that has a faster way to the same, a kernel for some device, may take
        it instead.

        Args:
          state: the agent state.
          env: environment.
          start: `rollout.RolloutState`, leaves [N, …].
          noise: all randomness of the steps, leaves [k, N, …].
          plain: the loop over steps; it returns the `RolloutState` to go on from, and
            the trajectory [k, N, …].
        """
        return plain(self, state, env, start, noise)

    def learned(self, state: Any) -> Any:
        """The part of the state that decides the greedy policy: parameters, a table.

        `evaluate` asks that it fits the environment. Default: all but `Buffer`s.
        """
        return without_buffers(state)


def _refuse_unseen(cls: type, whole: str, part: str, is_default: bool) -> None:
    """Raises TypeError where a class defines `whole` but inherits an own `part`.

    The library calls `part`, so what `whole` does differently would go unseen.
    """
    if not is_default:
        raise TypeError(
            f"{cls.__name__} overrides {whole} but inherits {part}, which is what is "
            f"called. Override {part} instead, which {whole} is made of."
        )
