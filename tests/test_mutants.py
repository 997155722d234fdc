"""The generator of mistakes: what it makes of small sources, and how it draws."""

import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import copies
    import generated
    import mutants
    import reach
finally:
    sys.path.remove(str(ROOT / "scripts"))


def changed(source, operator=None):
    """The lines with each mistake, or with those of one kind."""
    made = mutants.mutants(source)
    return {m.after for m in made if operator in (None, m.operator)}


@pytest.mark.parametrize(
    ("source", "operator", "wrong"),
    [
        ("y = a + b", "operator", {"y = a - b"}),
        ("y = a ** b", "operator", {"y = a * b"}),
        ("y = a < b", "operator", {"y = a <= b", "y = a >= b"}),
        ("y = a is not b", "operator", {"y = a is b"}),
        ("y = (a) not in (b)", "operator", {"y = (a) in (b)"}),
        ("y = a and b", "operator", {"y = a or b"}),
        ("y = a - (b * c)", "swapped operands", {"y = (b * c) - (a)"}),
        ("y = a @ b", "swapped operands", {"y = b @ a"}),
        ("y = a - b", "dropped term", {"y = a", "y = (-b)"}),
        ("y = a and b and c", "dropped term", {"y = a", "y = b", "y = c"}),
        ("y = a @ b", "dropped term", set()),
        ("y = -a", "sign or negation", {"y = a"}),
        ("y = not a", "sign or negation", {"y = a"}),
        ("y = True", "constant", {"y = False"}),
        ("y = 0", "constant", {"y = 1"}),
        ("y = 3", "constant", {"y = 4", "y = 0"}),
        ("y = -1", "constant", {"y = -2", "y = -0"}),
        ("y = 0.5", "constant", {"y = 1.0"}),
        ("y = 'text', None", "constant", set()),
        ("f(a, b, *c)", "swapped arguments", {"f(b, a, *c)"}),
        ("f(a=x, b=y)", "swapped arguments", {"f(a=y, b=x)"}),
        ("f(a, 'text')", "swapped arguments", set()),
        ("f(a, f'{b}')", "swapped arguments", set()),
        ("y = jnp.maximum(a, b)", "swapped arguments", set()),
        ("y = isinstance(a, int | float)", None, set()),
        ("f((a), b=x)", "dropped argument", {"f((a))"}),
        ("zip(a, b, strict=True)", "dropped argument", set()),
        ("f(a, axis=-1)", "axis", {"f(a, axis=0)"}),
        ("f(a, in_axes=0)", "axis", {"f(a, in_axes=1)"}),
        ("y = jnp.maximum(a, 0)", "dropped function", {"y = a"}),
        ("y = jnp.sum(a)", "confused name", {"y = jnp.mean(a)"}),
        ("y = max(a)", "confused name", {"y = min(a)"}),
        ("def f(values): return values", "confused name", set()),
        ("y = b if a else c", "negated condition", {"y = b if (not a) else c"}),
        ("while a: f()", "negated condition", {"while (not a): f()"}),
        ("[x for x in y if x]", "negated condition", {"[x for x in y if (not x)]"}),
        ("x += 1", "deleted statement", {"pass"}),
        ("x = f(x)", "deleted statement", {"pass"}),
        ("x = f(y)", "deleted statement", set()),
        ("if a: return", "deleted statement", {"if a: pass"}),
        ("if a: raise E(b + 1)", None, {"if (not a): raise E(b + 1)", "if a: pass"}),
        ("raise NotImplementedError", None, set()),
    ],
)
def test_each_kind_of_mistake(source, operator, wrong):
    assert changed(source, operator) == wrong


def test_names_are_taken_for_others_in_scope_only():
    source = """
def f(key, values):
    next_values = values
    key_a, key_b = split(key)
    return next_values, draw(key_a)

def g(key_c):
    return draw(key_c)
"""
    assert changed(source, "another key") == {
        "return next_values, draw(key)",
        "return next_values, draw(key_b)",
    }
    assert changed(source, "confused name") == {"return values, draw(key_a)"}


def test_nothing_is_made_of_what_is_there_for_people():
    source = '''
"""Adds 1 + 1."""
from __future__ import annotations
if TYPE_CHECKING:
    import a
    x = 1 + 1
__all__ = ["a" + "b"]
Shape: tuple[int, 3]

@decorator(1 + 1)
def f(x: 2 = None) -> A | B:
    """Adds 1 + 1."""
    # 1 + 1
    raise ValueError(f"{x + 1}: " + str(1 + 1)) from g(1, 2)

class Env(Protocol):
    size: int = 3

    def step(self, x=3): ...

class Agent:
    """Adds 1 + 1."""

    def act(self):
        """Adds 1 + 1."""
        ...

    def text(self):
        return f"{1 + 1} or {not self.x}"
'''
    assert {m.operator for m in mutants.mutants(source)} == {"deleted statement"}
    assert changed(source) == {"pass"}  # the check that raises


def test_only_the_place_changes_and_its_line_is_told():
    source = "# Größe ε\nx = f(\n    'ε' * a,  # + 1\n    b,\n)\nx = f('ε' * a, b)\n"
    for mutant in mutants.mutants(source):
        data, planted = source.encode(), mutant.plant(source)
        head, tail = data[: mutant.start].decode(), data[mutant.end :].decode()
        assert planted == head + mutant.new + tail != source
        assert "# Größe ε\n" in planted and planted.count("\n") >= 3
    (division,) = [m for m in mutants.mutants(source) if m.new == "/" and m.line == 3]
    assert division.before == "'ε' * a, # + 1"
    assert division.after == "'ε' / a, # + 1"


def test_equal_changes_of_equal_lines_are_told_apart():
    made = mutants.mutants("x = f(1)\ny = 2\nx = f(1)\n")
    assert len({m.identity for m in made}) == len(made)
    assert len({m.identity[:3] for m in made}) == len(made) // 2 + 1


def test_what_compiles_to_the_same_or_not_at_all_is_no_program():
    (first, *_) = mutants.mutants("def f():\n    return g(1)\n")
    assert first.is_program("def f():\n    return g(1)\n")
    same = first._replace(start=0, end=0, new="# \n")
    assert not same.is_program("def f():\n    return g(1)\n")
    wrong = first._replace(start=0, end=0, new="(")
    assert not wrong.is_program("def f():\n    return g(1)\n")


SOURCES = {
    "rljax/a.py": "".join(f"x{i} = {i} + y * f({i}, z)\n" for i in range(2, 12)),
    "rljax/b.py": "".join(f"x{i} = {i} + y * f({i}, z)\n" for i in range(12, 15)),
}


def test_the_seed_decides_the_sample():
    drawn = generated.draw(SOURCES, 9, 7)
    assert len({m.identity for m in drawn}) == 9
    assert generated.draw(SOURCES, 9, 7) == drawn
    assert generated.draw(dict(reversed(SOURCES.items())), 9, 7) == drawn
    assert generated.draw(SOURCES, 9, 8) != drawn
    assert generated.draw(SOURCES, 20, 7)[:9] == drawn


def test_every_line_is_drawn_before_one_is_drawn_again():
    drawn = generated.draw(SOURCES, 13, 0)
    assert len({(m.file, m.line) for m in drawn}) == 13
    every = generated.draw(SOURCES, 10**6, 0)
    assert len(every) == sum(len(mutants.mutants(s)) for s in SOURCES.values())


def test_a_change_of_one_line_leaves_the_order_of_the_others():
    drawn = generated.draw(SOURCES, 13, 3)
    other = "# a comment\n" + SOURCES["rljax/a.py"].replace("x5 = 5 +", "x5 = 5 -")
    again = generated.draw({**SOURCES, "rljax/a.py": other}, 13, 3)
    kept = [m.identity for m in drawn if not m.before.startswith("x5 ")]
    assert [m.identity for m in again if not m.before.startswith("x5 ")] == kept


def test_what_is_left_out_is_not_drawn():
    left_out = {m.identity[:3] for m in generated.draw(SOURCES, 9, 7)}
    every = generated.draw(SOURCES, 10**6, 7, left_out)
    assert not left_out & {m.identity[:3] for m in every}


def test_changes_judged_equivalent_can_still_be_made():
    listed = generated.equivalents()
    assert all(len(reason.split()) > 3 for reason in listed.values())
    for file in {file for file, _, _ in listed}:
        made = mutants.mutants((ROOT / file).read_text(encoding="utf-8"), file)
        stale = {key for key in listed if key[0] == file}
        stale -= {mutant.identity[:3] for mutant in made}
        assert not stale, "delete these from scripts/equivalent_mutants.toml"


def test_a_line_belongs_to_its_statement_and_its_function():
    source = "A = 1\nclass B:\n    c = 2\n\n    def d(\n        self, e=3\n    ):\n"
    source += "        if e:\n            return f(\n                e\n            )\n"
    nothing = range(0)
    assert reach.around(source, 1) == (range(1, 2), range(1, 12), nothing)
    assert reach.around(source, 3) == (range(3, 4), range(2, 12), nothing)
    assert reach.around(source, 6) == (range(5, 8), range(5, 12), range(8, 12))
    assert reach.around(source, 8) == (range(8, 9), range(5, 12), range(8, 12))
    assert reach.around(source, 10) == (range(9, 12), range(5, 12), range(8, 12))


def test_the_nearest_tests_run_first_and_all_that_reach_it_run(tmp_path, monkeypatch):
    source = "def f(x):\n    y = x + 1\n    return y\n\ndef g(x):\n    return x - 1\n"
    (tmp_path / "rljax").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "rljax/a.py").write_text(source)
    (tmp_path / "tests/test_a.py").write_text("")
    monkeypatch.setattr(generated, "ROOT", tmp_path)

    def reached(name, seconds, lines):
        return reach.Reach(f"tests/test_{name}.py", seconds, {"rljax/a.py": lines})

    runner = generated.Runner(tmp_path, 1)
    runner.reaches = [
        reached("slow", {"p": 9, "q": 1}, {"2": ["p"], "6": ["q"]}),
        reached("quick", {"p": 1}, {"2": ["p"]}),
        reached("a", {"p": 50, "q": 2, "r": 1}, {"2": ["", "p", "q"], "1": [""]}),
        reached("unconcerned", {"p": 1}, {"1": [""], "5": [""]}),
        reached("importing", {"p": 1}, {"2": [""]}),
    ]
    of_f, of_g = (
        next(m for m in mutants.mutants(source, "rljax/a.py") if m.line == line)
        for line in (2, 6)
    )
    assert runner.stages(of_f) == [
        ["tests/test_a.py::q", "tests/test_a.py::p", "tests/test_quick.py::p"],
        [
            "tests/test_slow.py::p",
            "tests/test_slow.py::q",
            "tests/test_a.py::r",
            "tests/test_importing.py::p",
        ],
    ]
    assert runner.stages(of_g) == [["tests/test_slow.py::q"], ["tests/test_slow.py::p"]]
    runner.reaches.append(reached("of_slow_tests_only", {}, {}))
    of_f, of_g = runner.slow_files(of_f), runner.slow_files(of_g)
    assert of_f[0] == "tests/test_a.py"
    assert {*of_f[1:-1]} == {"tests/test_slow.py", "tests/test_quick.py"}
    assert of_g == ["tests/test_slow.py", of_f[-1]]


@pytest.mark.parametrize("failing", [None, "fast", "slow"])
@pytest.mark.parametrize("slow", [False, True])
def test_survivors_meet_the_slow_tests_if_asked(failing, slow, tmp_path, monkeypatch):
    ran = []

    def run_pytest(copy, arguments, compiled, limit, marked="fast"):
        ran.append(marked)
        printed = "FAILED tests/test_a.py::p" if failing == marked else ""
        return subprocess.CompletedProcess([], int(bool(printed)), printed, "")

    (tmp_path / "rljax").mkdir()
    (tmp_path / "rljax/a.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "FOLDER", tmp_path)
    monkeypatch.setattr(generated, "run_pytest", run_pytest)
    monkeypatch.setattr(
        generated,
        "copy_tree",
        lambda folder: shutil.copytree(tmp_path / "rljax", folder / "rljax").parent,
    )
    runner = generated.Runner(tmp_path, 1, slow)
    lines = {"rljax/a.py": {"2": ["p"]}}
    runner.reaches = [reach.Reach("tests/test_a.py", {"p": 1.0}, lines)]
    mutant = mutants.mutants((tmp_path / "rljax/a.py").read_text(), "rljax/a.py")[0]
    outcome = runner.check(mutant)
    meets_slow = slow and failing != "fast"
    assert ran == (["fast", "slow"] if meets_slow else ["fast"])
    caught = failing == "fast" or (slow and failing == "slow")
    assert outcome.outcome == ("caught" if caught else "survived")
    assert outcome.by.startswith("slow: ") == (slow and failing == "slow")


@pytest.mark.parametrize("status", [-2, -9, -15, 5])
def test_a_run_that_was_stopped_has_caught_nothing(status):
    with pytest.raises(generated.BrokenRunError):
        generated._require_an_end(subprocess.CompletedProcess([], status, "", ""))


@pytest.mark.parametrize("status", [0, 1, 2, -11])
def test_a_run_that_ended_by_itself_says_something(status):
    generated._require_an_end(subprocess.CompletedProcess([], status, "", ""))


def test_tests_run_out_of_reach_of_the_terminal(tmp_path):
    """So that one which ends by SIGINT was ended by the mistake that is in it."""
    (tmp_path / "test_a.py").write_text(
        "import os\n"
        "def test_a():\n"
        "    assert os.getsid(0) == os.getpid()\n"
        "    raise KeyboardInterrupt\n"
    )
    done = copies.run_pytest(tmp_path, ["test_a.py"], tmp_path / "compiled", 60)
    assert done.returncode == 2
    assert "KeyboardInterrupt" in done.stdout
    generated._require_an_end(done)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    """What is noted is not run again; the report counts both."""
    monkeypatch.setattr(generated, "FOLDER", tmp_path)
    monkeypatch.setattr(generated, "sources_of", lambda *_: SOURCES)
    monkeypatch.setattr(generated.Runner, "find_reach", lambda *_: None)
    ran, stop_at = [], 4

    def check(self, mutant):
        if len(ran) == stop_at:
            raise KeyboardInterrupt
        ran.append(mutant)
        outcome = "survived" if mutant.operator == "constant" else "caught"
        return generated.Outcome(mutant, outcome, "", 1.0)

    monkeypatch.setattr(generated.Runner, "check", check)
    printed = []
    console = types.SimpleNamespace(print=lambda words, **_: printed.append(words))
    notes = tmp_path / "notes.jsonl"
    notes.touch()
    config = types.SimpleNamespace(
        generate=10,
        seed=1,
        modules=(),
        near=False,
        slow=False,
        minutes=None,
        jobs=1,
        resume=notes,
    )

    def each(_, calls):
        return [call() for call in calls]

    with pytest.raises(KeyboardInterrupt):
        generated.run(config, console, each)
    assert len(notes.read_text().splitlines()) == 4
    assert printed.pop() == f"Go on with --resume {notes}"
    stop_at = 100
    assert generated.run(config, console, each) == 0
    assert ran == generated.draw(SOURCES, 10, 1)
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    alive = [line for line in lines if line["outcome"] == "survived"]
    assert 0 < len(alive) < 10
    table, *survivors, summary = printed
    assert [*table.columns[3].cells][-1] == str(len(alive))
    assert len(survivors) == len(alive)
    for line in alive:
        words = f"{line['file']}:{line['line']}: {line['before']} → {line['after']}"
        assert words in survivors
    assert "10 of 10 drawn" in summary
