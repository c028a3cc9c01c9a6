"""Commands that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def killing():
    """Function: (arguments, folder, kill) -> what became of the command; see ``killing.py``."""
    script = [sys.executable, str(Path(__file__).with_name("killing.py"))]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def carry_out(arguments, folder, kill=None):
            order = {"arguments": list(arguments), "folder": str(folder), "kill": kill}
            print(json.dumps(order), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield carry_out
        process.stdin.close()
