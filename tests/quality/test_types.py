"""Types hold: mypy, as ``tox -e type`` runs it, beside other tests and not after them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is no part of this environment")

pytestmark = pytest.mark.slow


def test_types_hold(tmp_path):
    root = Path(__file__).parents[2]
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(mypy, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
