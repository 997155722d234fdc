"""Each layer imports only from those above it, as the architecture says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rljax"

# From top to bottom: the trunk's files in the order in which they are read, the rooms
# between them. Each imports from those before it.
FLOORS = [
    ["display", "struct", "checks", "random", "spaces", "mdp", "types", "contract"],
    ["distributions", "modules", "networks", "returns", "losses"],
    ["envs"],
    ["kernels"],
    ["agents"],
    ["rollout", "evaluation", "training", "parallel"],
    ["tabular"],
    ["rlhf"],
    ["experiment"],
    ["plotting"],
    ["testing"],
    ["adapters"],
    ["lab"],
    ["commands"],
    ["__main__"],
]
# Agents never import environments, though those stand above them.
FORBIDDEN = {("agents", "envs")}
LEVEL = {name: i for i, name in enumerate(n for floor in FLOORS for n in floor)}


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "rljax":
                if layer(path) == "commands" and len(parts) == 1:
                    continue  # they use the library as users do
                assert len(parts) > 1, f"{path}: imports the package whole"
                yield parts[1]


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    own = layer(path)
    assert own in LEVEL, f"{own} has no place in FLOORS"
    for other in set(imported_layers(path)) - {own}:
        assert LEVEL[other] < LEVEL[own], f"{own} must not import {other}"
        assert (own, other) not in FORBIDDEN


def test_oracles_know_only_numpy():
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"numpy", "math"}
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1, f"{path}: imports from outside its folder"
