"""Descriptions tell apart what differs, and are the same in every process."""

import collections
import functools
import json
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.fingerprint import check_same, describe, digest
from rljax.experiment.settings import label

SCALE = 1.0


class Net:
    def __init__(self, scale):
        self.scale = scale

    def apply(self, x):
        return self.scale * x


class WithSlots(Net):
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


class Named(tuple):
    pass


def closure(scale):
    def fn(x):
        return scale * x

    return fn


def with_keyword(scale):
    def fn(x, *, by=scale):
        return by * x

    return fn


def wrapped(scale):
    @functools.wraps(with_keyword)
    def fn(x):
        return scale * x

    return fn


def with_attribute(scale):
    def fn(x):
        return fn.scale * x

    fn.scale = scale
    return fn


def local_class(scale):
    class Local:
        @staticmethod
        def apply(x):
            return scale * x

    return Local()


def dictionary_of_lists(scale):
    found = collections.defaultdict(list)
    found["a"].append(scale)
    return found


def itself(scale):
    values = [scale]
    values.append(values)
    return values


def recursive(scale):
    def fn(depth=2):
        return fn(depth - 1) if depth else scale

    return fn


def with_custom_derivative(scale):
    fn = jax.custom_jvp(lambda x: x)
    fn.defjvp(lambda x, t: (x[0], scale * t[0]))
    return fn


def bound_to_itself(scale):
    net = Net(scale)
    net.forward = net.apply
    return net


MAKERS = {
    "object": Net,
    "slots": WithSlots,
    "array inside": lambda scale: Net(jnp.full(3, scale)),
    "method": lambda scale: Net(scale).apply,
    "jitted closure": lambda scale: jax.jit(closure(scale)),
    "jitted method": lambda scale: jax.jit(Net(scale).apply),
    "cached closure": lambda scale: functools.lru_cache(closure(scale)),
    "partial": lambda scale: functools.partial(Net(scale).apply, 3),
    "vmapped closure": lambda scale: jax.vmap(closure(scale)),
    "custom derivative": with_custom_derivative,
    "keyword": with_keyword,
    "wrapped": wrapped,
    "attribute of a function": with_attribute,
    "class": local_class,
    "tuple with a name": lambda scale: Named((scale,)),
    "dictionary of lists": dictionary_of_lists,
    "keys that are no strings": lambda scale: {(1, scale): 0},
    "set": lambda scale: {1.5, scale},
    "bytes": lambda scale: bytes([int(scale)]),
    "complex": lambda scale: np.array([scale * 1j]),
    "generator": lambda scale: np.random.default_rng(int(scale)),
    "list in itself": itself,
    "function in itself": recursive,
    "object in its method": bound_to_itself,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_what_an_object_holds_is_part_of_its_description(make):
    assert digest(make(1.0)) == digest(make(1.0))
    assert digest(make(1.0)) != digest(make(2.0))


def test_names_and_keys_are_told_apart():
    assert digest(np.add) != digest(np.multiply)
    assert digest(np.add) != digest(jnp.add)
    assert digest({1: 0}) != digest({"1": 0})


def test_a_global_variable_that_a_lambda_reads_is_part_of_it(monkeypatch):
    def outer():
        return lambda x: SCALE * x

    digests = {digest(outer), digest(outer)}
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert digest(outer) not in digests and len(digests) == 1


def test_sets_have_no_order():
    assert list({8, 0}) != list({0, 8})  # in slots of one hash table
    assert digest({8, 0}) == digest({0, 8}) != digest({0, 9})
    assert digest(lambda x: x in {8, 0}) == digest(lambda x: x in {0, 8})


def test_a_variable_without_a_value_is_no_obstacle():
    def fn():
        return later

    before = digest(fn)
    later = 1
    assert digest(fn) != before


def test_the_difference_is_named():
    def holder(scale):
        return {"agent": rljax.ActorCritic(optimizer=Net(scale).apply)}

    with pytest.raises(
        CheckpointError, match=r"agent.optimizer\S+\.scale is 1.0 there and 50.0 here"
    ):
        check_same("folder", describe(holder(1.0)), describe(holder(50.0)))


def test_what_can_not_be_described_is_refused_where_it_must_be(tmp_path):
    net = Net({"lock": threading.Lock()})
    with pytest.raises(TypeError, match=r"net\.scale\.lock is a lock, which can't be"):
        describe(net, "net")
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(TypeError, match="value is nested too deeply"):
        describe(deep)
    with pytest.raises(TypeError, match=r"measure\.self\.scale\.lock is a lock"):
        rljax.sweep(
            rljax.ActorCritic(),
            rljax.CartPole(),
            jax.random.key(0),
            num_seeds=1,
            num_updates=1,
            measure=net.apply,
            checkpoints=Checkpoints(tmp_path),
        )
    assert label({"network": net}) == "network=Net"


def test_labels_tell_objects_apart():
    assert label({"network": Net(1.0)}) == label({"network": Net(1.0)})
    assert label({"network": Net(1.0)}) != label({"network": Net(2.0)})
    assert label({"names": {"a"}}) != label({"names": {"b"}})
    assert label({"f": jnp.tanh, "x": ((8,), None)}) == "f=tanh, x=((8,), None)"


@pytest.mark.slow
def test_descriptions_are_the_same_in_every_process():
    """Two processes with other addresses and another order of strings in sets."""
    program = (
        "import json; from tests.experiment import test_fingerprint as t; "
        "made = {name: make(1.0) for name, make in t.MAKERS.items()}; "
        "made['strings'] = lambda x: x in {'a', 'b', 'c', 'd', 'e'}; "
        "print(json.dumps(t.describe(made)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    }
    assert len(outputs) == 1 and json.loads(*outputs)["object"]["scale"] == 1.0
