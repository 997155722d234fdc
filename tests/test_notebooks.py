"""The notebooks run from top to bottom, and what their text says of them is true."""

import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "scripts" / "notebooks"
sys.path.insert(0, str(FOLDER))
try:
    from execute import NOTEBOOKS, execute
finally:
    sys.path.remove(str(FOLDER))

# What the text says, checked right after the cell that contains the words.
CLAIMS = {
    "1_planning_to_q_learning": {
        "plotting.gridworld(maze, plan)": "assert plan.error_bound < 1e-6",
        "never = ": "assert never == 0",
        "final_regrets(epsilons)": """
            assert known[-1].mean() < 0.01 < 0.4 < known[0].mean()
            assert 0 < lived.mean(axis=1).argmin() < len(epsilons) - 1""",
        "returns = {}": """
            assert returns["Q-learning"][0] > returns["Sarsa"][0] + 1
            assert returns["Sarsa"][1] > returns["Q-learning"][1] + 5""",
    },
    "2_bandits": {
        "watch_bandit": "assert (np.bincount(seen.pulls.actions) > 0).all()",
        '"UCB, c = 2"': """
            ends = {k: x.expected_regret[:, 0, -1].mean() for k, x in curves.items()}
            assert ends["Thompson"] < ends["ε-greedy, ε = 0.1"] < ends["UCB, c = 2"]
            assert max(ends, key=ends.get) == "greedy"
            """,
        "thompson = ": """
            least = {k: x.expected_regret[..., -1].mean(0) for k, x in curves.items()}
            assert least["UCB: c"].min() < thompson
            assert 0.15 < settings["UCB: c"][1][least["UCB: c"].argmin()] < 0.4
            assert thompson < min(least["ε-greedy: ε"].min(), least["softmax: τ"].min())
            """,
        "lai_robbins": """
            late = curves["Thompson"].expected_regret[:, 0, [499, 999]].mean(0)
            assert abs(np.diff(late)[0] / (slope * np.log(2)) - 1) < 0.3
            greedy = curves["ε-greedy, ε = 0.1"].expected_regret[:, 0, -1].mean()
            assert greedy > 10 * late[1]""",
        "class ExploreThenCommit": """
            ends = curves["commit"].expected_regret[..., -1].mean(0)
            assert 0 < ends.argmin() < len(grid) - 1""",
        "moves = ": """
            exact = jax.grad(lambda h: jax.nn.softmax(h) @ mu)(preferences)
            assert jnp.allclose(
                sum(p * m for p, m in zip(pi, moves, strict=True)), exact, atol=1e-6
            )""",
    },
    "3_policy_gradients_to_rlhf": {
        "by_hand = ": "assert np.abs(jax.grad(loss)(w) - by_hand).max() < 1e-6",
        "states, metrics = ": """
            def last(run):
                episodes = run.num_episodes[:, -run.num_episodes.shape[1] // 10 :]
                returns = run.episode_return_sum[:, -episodes.shape[1] :]
                return np.median(returns.sum(1) / episodes.sum(1))
            scores = {name: last(run) for name, run in metrics.items()}
            assert scores["PPO"] > 450
            assert scores["PPO"] > 1.3 * scores["REINFORCE"]
            assert scores["PPO"] > 1.3 * scores["actor-critic"]""",
        "with_clip": """
            seeds = found.episode_return_sum[:, :, -20:].sum(-1)
            seeds /= found.num_episodes[:, :, -20:].sum(-1)
            assert np.median(seeds[0]) > 400 > np.median(seeds[1])
            kl = found.agent["approx_kl"].mean((1, 2))
            assert kl[0] < 0.1 * kl[1]""",
        "runs = align(prices)": """
            gaps = runs["exact_gap"]
            assert (gaps[:, -1] < 0.1).all() and (gaps[:, -1] < 0.05 * gaps[:, 0]).all()
            assert (np.diff(runs["exact_kl"][:, -1]) < 0).all()""",
    },
}


def test_there_are_three_and_each_claim_has_its_cell():
    assert [path.stem for path in NOTEBOOKS] == sorted(CLAIMS)
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        for words in CLAIMS[path.stem]:
            assert sum(words in source for source in code) == 1, words


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_kept_are_of_one_whole_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds == {"stream", "display_data", "execute_result"}
    assert all(not cell.metadata for cell in notebook.cells)
    text = path.read_text(encoding="utf-8")
    assert "stderr" not in text and "/home" not in text
    assert len(text) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_within_two_minutes_and_its_claims_hold(path):
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            for words, check in CLAIMS[path.stem].items():
                if words in cell.source:
                    cells.append(nbformat.v4.new_code_cell(textwrap.dedent(check)))
    notebook.cells = cells
    start = time.perf_counter()
    execute(notebook)
    assert time.perf_counter() - start < 120
