"""The README's Python runs as it stands, in order, but for fewer updates."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 8
    names = {}
    for block in blocks:
        shorter = re.sub(r"num_updates=\d+", "num_updates=2", block)
        exec(compile(shorter, "README.md", "exec"), names)
    assert names["metrics"].num_episodes.shape == ()
    assert names["grid"][1].num_episodes.shape == (3, 2)
    assert names["result"].scores.shape == (8, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "checkpoints"}
