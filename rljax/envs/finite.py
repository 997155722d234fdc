"""Any finite MDP as an environment."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks, distributions, random, spaces, struct
from rljax.types import MDP, Env, SparseTransitions, TimeStep


@struct.dataclass
class FiniteMDP(Env):
    """An environment that follows the arrays of an `MDP`.

        s_0 ~ initial,   s' ~ P(·|s,a),   r = R(s,a),   terminated where s' is terminal

    State and observation are the number of the state, [] int32. The reward is the
    expected one, [] floating, as the model knows no other. All of it is data, so that
    MDPs of one size share a compiled program, and training vmaps over stacked ones:

        mdps = jax.tree.map(lambda *x: jnp.stack(x), *[m.to_mdp() for m in mazes])
        jax.vmap(lambda m: rljax.train(agent, FiniteMDP(m), key, num_updates=9))(mdps)

    There is no time limit; `TimeLimit` can add one.

    Raises:
      TypeError: `mdp` is no `MDP`.

    Source: Puterman (1994), Markov Decision Processes, §2.1.
    """

    mdp: MDP = struct.data()
    """The model."""

    def __post_init__(self):
        checks.instance("FiniteMDP.mdp", self.mdp, MDP, "env.to_mdp()")

    @property
    def observation_space(self) -> spaces.Discrete:
        """The states."""
        return spaces.Discrete(self.mdp.num_states)

    @property
    def action_space(self) -> spaces.Discrete:
        """The actions."""
        return spaces.Discrete(self.mdp.num_actions)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws an initial state."""
        u = random.uniform(key, (), self.mdp.initial.dtype)
        state = distributions.quantile(self.mdp.initial, u)
        return state, state

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """Draws a uniform number for each step."""
        return random.uniform(key, shape, self.mdp.initial.dtype)

    def advance(
        self, state: jax.Array, action: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, TimeStep]:
        """Draws the successor of a state."""
        action = spaces.check_element(self.action_space, action, "FiniteMDP's action")
        transitions = self.mdp.transitions
        if isinstance(transitions, SparseTransitions):
            outcome = distributions.quantile(
                transitions.probabilities[state, action], noise
            )
            next_state = transitions.next_states[state, action, outcome]
        else:
            next_state = distributions.quantile(transitions[state, action], noise)
        terminated = self.mdp.terminal[next_state]
        return next_state, TimeStep(
            obs=next_state,
            reward=self.mdp.rewards[state, action],
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The model, its transitions as an array [S, A, S] or as a list of outcomes.

        Args:
          sparse: whether as a list, of all S states if the model's own is none.
        """
        transitions: Any = self.mdp.transitions
        is_sparse = isinstance(transitions, SparseTransitions)
        if is_sparse and not sparse:
            transitions = transitions.dense(self.mdp.num_states)
        elif sparse and not is_sparse:
            states = jnp.arange(self.mdp.num_states, dtype=jnp.int32)
            every = jnp.broadcast_to(states, transitions.shape)
            transitions = SparseTransitions(every, transitions)
        return dataclasses.replace(self.mdp, transitions=transitions)
