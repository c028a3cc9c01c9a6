"""The end of a command: nothing that is due is left out, however quickly it ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from leaderboards.ending import end_at_once

class Held:
    def __del__(self):
        print("cleaned up")

def later():
    time.sleep(0.3)
    print("thread")

def main():
    atexit.register(lambda: print("atexit"))
    threading.Thread(target=later).start()
    main.held = Held()
    main.itself = main  # A circle, which only the interpreter's clean-up ends.
    print("main")
    {end}

end_at_once(main)
"""


def ended(end, **options):
    """What a process does whose main function ends in this way."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = [sys.executable, "-c", PROGRAM.format(end=end)]
    return subprocess.run(program, env=buffered, text=True, timeout=60, **options)


@pytest.mark.parametrize(("end", "code"), [("sys.exit(2)", 2), ("sys.exit()", 0), ("sys.exit(0)", 0)])
def test_what_is_due_is_done_and_the_clean_up_left_out(end, code):
    done = ended(end, capture_output=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (code, ["main", "thread", "atexit"], "")


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("sys.exit('no')", 1, "no"), ("raise ValueError('bad')", 1, "ValueError: bad"), ("return", 0, "")],
)
def test_other_ends_are_the_interpreters(end, code, said):
    done = ended(end, capture_output=True)
    assert done.returncode == code and said in done.stderr
    assert done.stdout.splitlines()[:3] == ["main", "thread", "atexit"] and "cleaned up" in done.stdout


def test_a_reader_that_has_gone_ends_it_with_the_interpreters_code():
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        done = ended("sys.exit(0)", stdout=reader.stdin, stderr=subprocess.PIPE)
    assert done.returncode == 120 and "BrokenPipeError" in done.stderr
