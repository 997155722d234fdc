"""What an action distribution offers, whatever kind of action it is of."""

import abc
import math
from typing import Any, ClassVar, Self

import jax


class Distribution(abc.ABC):
    """A distribution of actions: a pytree of its parameters.

    The parameters have a batch shape [...], empty for a single decision, and then axes
    that belong to one action. Everything but the actions themselves has the batch shape
    alone: an action of several numbers has one log-probability.

    Some actions are a function of what is drawn: a squashed normal draws u and plays
    tanh(u). Near the ends of its interval rounding makes u unknowable from the action.
    So a sampler that will need log π(a|s) again keeps the draw, and asks for
    `draw_log_prob` of it; elsewhere the draw is the action.

    Without its parameters a distribution is a kind: what an agent knows of an action
    space before its network has spoken. `given` makes a distribution of it.
    """

    transforms: ClassVar[bool] = False
    """Whether a draw may be another number than the action it stands for."""

    @property
    @abc.abstractmethod
    def outputs(self) -> Any:
        """The shapes of what a network must return for one action, a tree."""

    @property
    def num_outputs(self) -> int:
        """How many of these numbers depend on the observation in an agent's own
        network: logits or means."""
        return math.prod(self.outputs)

    @abc.abstractmethod
    def given(self, outputs: Any) -> Self:
        """The distribution with the parameters that a network returns, [..., outputs].

        The shapes before those of `outputs` are a batch.
        """

    @abc.abstractmethod
    def draw(self, key: jax.Array) -> jax.Array:
        """A draw for each element of the batch."""

    @abc.abstractmethod
    def draw_log_prob(self, draw: Any) -> jax.Array:
        """log π(a) of the action that a draw stands for, [...]."""

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """H(π) = −E[log π(a)] in nats, [...]; of a density it may be negative."""

    @abc.abstractmethod
    def mode(self) -> jax.Array:
        """The action that a greedy policy takes."""

    @abc.abstractmethod
    def kl(self, other: Any) -> jax.Array:
        """KL(π‖other) in nats, [...], 0 or more."""

    def to_action(self, draw: jax.Array) -> jax.Array:
        """The action that a draw stands for."""
        return draw

    def to_draw(self, action: Any) -> jax.Array:
        """A draw that stands for an action."""
        return action

    def remembered(self, draw: jax.Array) -> dict[str, jax.Array]:
        """What to keep beside the action, to know the draw again: see `recalled`."""
        return {"draw": draw} if self.transforms else {}

    def recalled(self, action: Any, extras: Any) -> Any:
        """The draw that an action stands for, from the action or what was kept."""
        return extras["draw"] if self.transforms else action

    def sample(self, key: jax.Array) -> jax.Array:
        """An action a ~ π for each element of the batch."""
        return self.to_action(self.draw(key))

    def log_prob(self, action: Any) -> jax.Array:
        """log π(a), [...]."""
        return self.draw_log_prob(self.to_draw(action))
