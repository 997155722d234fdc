"""What policy-gradient agents share: their fields, their state, and a gradient step.

`PolicyAgent` has a policy alone, `critic.ActorCriticAgent` a critic besides. An agent
derived from one of them shows its equation, the fields of its own, and `learn`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from rljax import checks, distributions, networks, random, struct
from rljax.agents import running
from rljax.distributions import Categorical, Distribution
from rljax.types import Agent, EnvLike, Transition


class AgentState(NamedTuple):
    """Everything that a policy-gradient agent learns or counts."""

    params: Any
    opt_state: optax.OptState
    num_updates: jax.Array
    """[] int32: calls of `update` so far."""
    policy: Distribution = Categorical()
    """The kind of distribution that the action space needs, without parameters."""
    running: Any = ()
    """`running.Running`: moments of what was seen, () if nothing is normalised."""


def adam(
    learning_rate: jax.typing.ArrayLike, epsilon: jax.typing.ArrayLike = 1e-8
) -> optax.GradientTransformation:
    """Adam that can itself be differentiated.

    optax.adam divides by sqrt(v), whose derivative is infinite at the v = 0 of a dead
    unit; a floor of 1e-30 under the root makes it finite and changes no update that
    epsilon does not drown.
    """
    return optax.adam(learning_rate, eps=epsilon, eps_root=1e-30)  # pyright: ignore[reportArgumentType]


@struct.dataclass
class PolicyAgent(Agent):
    """A policy network, its optimiser, and rollouts of one length. Abstract.

    The agent's own network reads a dictionary, a tuple or any tree of observations as
    one vector. Choices, of a Discrete or MultiDiscrete space, become one-hot vectors.
    Arrays of a Box are flattened; integers between finite bounds, such as images, are
    scaled to [0, 1], floating ones are read as they are, or normalised, see
    `normalize_observations`. An `encoder` comes before the hidden layers. A `network`
    stands in the place of it all, and reads integers as they are.

    The action space says what the policy is: categorical for a Discrete one, one
    categorical for each choice of a MultiDiscrete one, and normal for a Box, squashed
    to it if it has bounds, see `squash`. log σ of the agent's own network is a
    parameter, the same for all observations, 0 at first.

    Derived agents define `learn`, with `over_steps` to apply the network to a whole
    trajectory, `state.policy.given` to make distributions of what it returns, and
    `apply_gradients` to take a step. Those that define `update` itself see what the
    environment gave, and can't normalise it.
    """

    num_envs: int = struct.static(default=16)
    """Environments stepped side by side, N."""
    rollout_length: int = struct.static(default=64)
    """Steps of each environment per update, T."""
    hidden_sizes: tuple[int, ...] = struct.static(default=(64,))
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    learning_rate: float = 5e-3
    """Step size of the optimiser, at first."""
    anneal_updates: float | None = None
    """Updates over which the learning rate falls linearly to 0; None: constant."""
    max_grad_norm: float | None = None
    """Global norm to which a larger gradient is scaled down; None: no limit."""
    adam_epsilon: float = 1e-8
    """Adam's ε, for the optimiser that stands here by default."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(default=adam)
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: Any = struct.static(default=None)
    """An init/apply pair for one observation that returns what the distribution of the
    action takes, and with a critic a pair of that and the value []: logits [A] for a
    Discrete space, (mean, log σ), both of its shape, for a Box. Or what builds such a
    module of flax.nnx (from `rngs`) or Equinox (from a key). None: MLPs of
    hidden_sizes."""
    encoder: Any = struct.static(default=None)
    """An init/apply pair for one observation that returns an array for the hidden
    layers to read, flattened, such as `networks.CNN()`; or what builds a module, as for
    `network`. It gets integers between finite bounds scaled to [0, 1]. All layers are
    trained together. None: the observation itself."""
    normalize_observations: bool = struct.static(default=False)
    """Whether floating arrays are read as (x − mean) / σ within ±10, with moments of
    all experience so far; in the first rollout as they are, within ±10."""
    squash: bool = struct.static(default=True)
    """Whether the policy over a Box with finite bounds is a normal one squashed into
    it; else it is a normal one, of which the environment gets the clipped draw."""

    def __post_init__(self):
        checks.ints(self, "num_envs", "rollout_length", minimum=1)
        checks.sizes(self, "hidden_sizes")
        checks.choice(self, "activation", networks.ACTIVATIONS)
        checks.bools(self, "squash", "normalize_observations")
        checks.reals(self, "learning_rate", minimum=0.0)
        checks.reals(self, "adam_epsilon", minimum=0.0, open_minimum=True)
        checks.reals(
            self,
            "anneal_updates",
            "max_grad_norm",
            minimum=0.0,
            open_minimum=True,
            optional=True,
        )
        who = type(self).__name__
        if not callable(self.optimizer):
            raise TypeError(
                f"{who}.optimizer must be a function of the learning rate such as "
                f"optax.sgd, not an optimiser built already, got {self.optimizer!r}."
            )
        for name in ("network", "encoder"):
            network = networks.as_network(getattr(self, name), f"{who}.{name}")
            object.__setattr__(self, name, network)
        if self.network is not None and self.encoder is not None:
            raise ValueError(
                f"{who}.encoder is for the agent's own network and would not be used "
                f"beside {who}.network. Leave one of them None."
            )
        self._check_learn()

    def _check_learn(self) -> None:
        """Raises TypeError unless there is an update, one that can normalise if asked.

        The library calls `update`, so what comes before and after `learn` would be left
        out in silence.
        """
        kind, who = type(self), type(self).__name__
        updates = kind.update is not PolicyAgent.update
        if not updates and kind.learn is PolicyAgent.learn:
            raise TypeError(f"{who} must define learn or update.")
        if updates and self._normalizes:
            raise TypeError(
                f"{who} can't normalise observations or rewards, as it overrides "
                "update. Let it define learn instead, which gets normalised ones, or "
                "leave normalize_observations and normalize_rewards False."
            )

    @property
    def reward_discount(self) -> Any:
        """γ of the returns by whose deviation rewards are divided; None: by none."""
        return None

    @property
    def _normalizes(self) -> bool:
        return self.normalize_observations or self.reward_discount is not None

    def init(self, key: jax.Array, env: EnvLike) -> Any:
        """Draws the network's parameters; zeroes the optimiser's moments."""
        params = self.init_params(key, env)
        return self.first_state(params, self.make_optimizer(0).init(params), env, key)

    def first_state(
        self, params: Any, opt_state: Any, env: EnvLike, key: jax.Array
    ) -> AgentState:
        """The state before the first update; `key` is one to try `env.reset` with."""
        seen: Any = ()
        if self._normalizes:
            obs = networks.example(env, key) if self.normalize_observations else None
            num_envs = None if self.reward_discount is None else self.num_envs
            seen = running.start(obs, num_envs, type(self).__name__)
        zero = jnp.zeros((), jnp.int32)
        return AgentState(params, opt_state, zero, self.kind_of_policy(env), seen)

    def learned(self, state: Any) -> AgentState:
        """The parameters, of what they are, and how observations are normalised."""
        nothing: Any = ()
        seen = nothing
        if self.normalize_observations:
            seen = running.Running(state.running.observations)
        return AgentState(state.params, nothing, nothing, state.policy, seen)

    def update(
        self, state: Any, trajectory: Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """`learn` from the trajectory, normalised as the agent says.

        Observations are read with the moments that the trajectory was acted with, so
        that the policy is the same one. Rewards are scaled with their own taken in.
        """
        if not self._normalizes:
            return self.learn(state, trajectory, key)
        seen = state.running.take_in(
            trajectory,
            self.reward_discount,
            fresh_episodes=self.rollout_plan.fresh_episodes,
        )
        reading = seen._replace(observations=state.running.observations)
        learned, metrics = self.learn(state, reading.normalised(trajectory), key)
        return learned._replace(running=seen), metrics

    def learn(
        self, state: Any, trajectory: Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """What a derived agent defines: `update`, once observations and rewards are as
        they are to be learned from."""
        raise NotImplementedError

    def kind_of_policy(self, env: EnvLike) -> Distribution:
        """The distribution that the action space needs, without parameters.

        Raises:
          TypeError: there is none for it.
        """
        who = type(self).__name__
        return distributions.for_space(env.action_space, who, squash=self.squash)

    def init_params(self, key: jax.Array, env: EnvLike) -> Any:
        """Parameters of the user's network, or of an MLP.

        Raises:
          TypeError, ValueError: network, observations and actions do not fit.
        """
        checks.scalars(self)
        policy = self.kind_of_policy(env)
        if self.network is not None:
            return self._init_network(env, policy.outputs, key)

        def draw(inputs, key):
            sizes = (inputs, *self.hidden_sizes, policy.num_outputs)
            return networks.mlp_init(sizes, key)

        return self._init_own(draw, 1, policy, env, key)

    def apply(self, params: Any, obs: Any) -> Any:
        """The network's output for one observation: what the distribution takes."""
        if self.network is not None:
            return self.network.apply(params, obs)
        params, obs, log_scale = networks.opened(params, obs)
        params, (obs,) = self._encoded(params, obs)
        outputs = networks.mlp_apply(params, obs, self.activation)
        return networks.with_log_scale(outputs, log_scale)

    def over_steps(self, params: Any, obs: Any) -> Any:
        """`apply` to observations [T, N, …]."""
        return jax.vmap(jax.vmap(lambda one: self.apply(params, one)))(obs)

    def policy(self, state: Any, obs: Any) -> Any:
        """π(·|obs), a `distributions.Distribution`."""
        return state.policy.given(self.outputs(state, obs))

    def outputs(self, state: Any, obs: Any) -> Any:
        """What the network says of the policy, `apply` without a value."""
        return self.apply(state.params, self.read(state, obs))

    def read(self, state: Any, obs: Any) -> Any:
        """An observation, normalised if the agent says so."""
        return state.running.read(obs) if self.normalize_observations else obs

    def logits(self, state: Any, obs: Any) -> jax.Array:
        """Logits of a categorical π(·|obs), [A]."""
        return self.policy(state, obs).logits

    def act(self, state: Any, obs: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs); extras hold the draw, where it isn't the action."""
        policy = self.policy(state, obs)
        draw = policy.draw(key)
        return policy.to_action(draw), policy.remembered(draw)

    def greedy(self, state: Any, obs: Any) -> jax.Array:
        """The mode of π(·|obs): argmax_a π(a|obs), ties to the lowest action and −1
        where all are masked; of a normal policy, its mean."""
        return self.policy(state, obs).mode()

    def make_optimizer(self, num_updates: Any) -> optax.GradientTransformation:
        """The optimiser after some updates, at the learning rate of then.

        It is built anew from the agent's fields for every update, so that a learning
        rate may be traced, vmapped over and differentiated by.

        Raises:
          TypeError: what `optimizer` returns is no optimiser.
        """
        rate = self.current_learning_rate(num_updates)
        more = (self.adam_epsilon,) if self.optimizer is adam else ()
        optimizer = self.optimizer(rate, *more)
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                f"{type(self).__name__}.optimizer must return an optimiser such as "
                f"optax.sgd(learning_rate), returned {optimizer!r}."
            )
        if self.max_grad_norm is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optimizer)

    def current_learning_rate(self, num_updates: Any) -> Any:
        """The step size after some updates, see `anneal_updates`."""
        if self.anneal_updates is None:
            return self.learning_rate
        done = jax.lax.convert_element_type(num_updates, float)  # weakly typed
        return self.learning_rate * jnp.maximum(1.0 - done / self.anneal_updates, 0.0)

    def apply_gradients(self, state: Any, grads: Any) -> tuple[Any, jax.Array]:
        """The state after one gradient step, and the norm of the raw gradient."""
        params, opt_state, grad_norm = gradient_step(
            self.make_optimizer(state.num_updates), grads, state.params, state.opt_state
        )
        num_updates = optax.safe_increment(state.num_updates)
        state = state._replace(
            params=params, opt_state=opt_state, num_updates=num_updates
        )
        return state, grad_norm

    def _init_own(
        self,
        draw: Callable[[int, jax.Array], Any],
        num_encoders: int,
        policy: Distribution,
        env: EnvLike,
        key: jax.Array,
    ) -> Any:
        """Parameters of the agent's own network, with what its outputs and inputs need.

        `draw(inputs, key)` are those of its layers. A normal policy has log σ,
        observations have a way to be read, and encoders.
        """
        who, space = type(self).__name__, env.observation_space
        reading, label = networks.reading_of(space), f"{who}.encoder"
        if self.encoder is not None:
            key, *keys = random.split(key, 1 + num_encoders)
            encoders, width = networks.init_encoders(self.encoder, env, label, keys)
            params = networks.Encoded(encoders, draw(width, key))
        elif None in reading.parts:
            raise TypeError(
                f"{who}'s own networks take observations of Discrete, MultiDiscrete "
                "and Box spaces, and of dictionaries and tuples of them, got "
                f"{space}. Pass {who}(network=…) for any other."
            )
        else:
            params = draw(reading.width, key)
        if not reading.is_trivial:
            params = networks.Reader(params, reading)
        if isinstance(policy, distributions.Normal):
            zeros = jnp.zeros(policy.outputs[0], jnp.result_type(float))
            params = networks.LogScaled(params, zeros)
        return params

    def _encoded(self, params: Any, obs: Any) -> tuple[Any, tuple[Any, ...]]:
        """The parameters without encoders, and what these make of an observation."""
        if self.encoder is None:
            return params, (obs,)
        encoded = (self.encoder.apply(one, obs) for one in params.encoders)
        return params.params, tuple(map(jnp.ravel, encoded))

    def _init_network(self, env: EnvLike, outputs: Any, key: jax.Array) -> Any:
        """Parameters of the user's network; `outputs` are the shapes of its output."""
        label = f"{type(self).__name__}.network"
        return networks.init_network(self.network, env, outputs, label, key)


def gradient_step(
    optimizer: optax.GradientTransformation, grads: Any, params: Any, opt_state: Any
) -> tuple[Any, optax.OptState, jax.Array]:
    """Parameters and optimiser state after one step, and the raw gradient's norm."""
    # Whatever promotion rljax is traced with: that of optax's adam is not strict.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)


def as_vector(params: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """All parameters in one vector, and the function that makes them of one.

    Raises:
      TypeError: a parameter is no floating array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                "a network's parameters must be floating arrays, as each is learned, "
                f"got {dtype} at params{jax.tree_util.keystr(path)}. Keep it in the "
                "network itself."
            )
    return ravel_pytree(params)


def standardize(x: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """(x − mean) / sqrt(variance + 1e-16), both over the elements that `where` marks.

    The floor stands for the customary 1e-8 beside the root, but under it, so that the
    derivative stays finite where all elements are equal. It is computed in float32 at
    least, which is then the result's dtype.
    """
    (x,) = checks.floating(x=x)
    # One element is subtracted first. The mean of equal numbers is not exactly that
    # number in floating point, and the difference would be the whole deviation.
    one = x.ravel()[0] if where is None else jnp.max(x, where=where, initial=-jnp.inf)
    x = x - jax.lax.stop_gradient(one)
    x = x - jnp.mean(x, where=where)
    return x / jnp.sqrt(jnp.mean(jnp.square(x), where=where) + 1e-16)
