from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.registry import MODELS, STREAMS
from strategies.registry import SCORES, STRATEGIES

LOOK = """
import sys
from click.testing import CliRunner
from benchmark.run import main
done = CliRunner().invoke(main, {arguments!r})
assert done.exit_code == 0, done.output
heavy = {{"torch", "avalanche", "mlflow", "pandas", "numpy", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
print(done.output)
"""


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_nothing_heavy_is_imported(flag):
    done = subprocess.run([sys.executable, "-c", LOOK.format(arguments=[flag])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_list_shows_everything_with_a_line_each(command):
    done = command("--list", fresh=True)
    for registry in (STREAMS, STRATEGIES, MODELS, SCORES):
        for name, description in registry.descriptions().items():
            assert description
            assert any(line.split()[:1] == [name] for line in done.stdout.splitlines())


def test_help_groups_options_and_shows_examples(command):
    done = command("--help", fresh=True)
    for heading in ("Stream:", "Strategy:", "Training:", "Run:", "Examples:"):
        assert heading in done.stdout
    assert "python -m benchmark.run --stream restricted_imagenet_fewshot --strategy APP" in done.stdout


def test_unknown_options_get_the_nearest_suggested(command):
    done = command("--stratgy", "APP", fresh=True)
    assert done.returncode == 2 and "--strategy" in done.stderr
