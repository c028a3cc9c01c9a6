"""What the command imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.engines import imports
from benchmark.engines.imports import libraries_imported


def test_hidden_packages_come_back(monkeypatch):
    monkeypatch.setattr(imports, "UNUSED", ("colorsys", "sys"))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with libraries_imported():
        with pytest.raises(ModuleNotFoundError):
            import colorsys
        import sys as still_there

        assert still_there is sys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


@pytest.mark.slow
def test_the_process_that_others_are_forked_from_has_imported_their_libraries_and_done_nothing_else():
    look = (
        "import sys, threading, benchmark.engines.preload, torch\n"
        "from benchmark.engines.imports import UNUSED\n"
        "needed = {'avalanche', 'mlflow.store.tracking.sqlalchemy_store', 'benchmark.engines.processes'}\n"
        "assert needed <= set(sys.modules)\n"
        "assert threading.enumerate() == [threading.main_thread()] and not torch.cuda.is_initialized()\n"
        # What is not used was not imported, and can be later.
        "assert not set(UNUSED) & set(sys.modules)\n"
        "import qpsolvers\n"
        "assert 'quadprog' in qpsolvers.available_solvers\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
