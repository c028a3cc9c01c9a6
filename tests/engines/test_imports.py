"""What the command imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.engines import imports
from benchmark.engines.imports import libraries_imported


@pytest.mark.slow
def test_what_is_not_used_is_not_imported_and_can_be_later():
    look = (
        "import sys\n"
        "from benchmark.engines.imports import UNUSED, libraries_imported\n"
        "with libraries_imported():\n"
        "    import avalanche.training.plugins\n"
        "assert not set(UNUSED) & set(sys.modules)\n"
        "import qpsolvers\n"
        "assert 'quadprog' in qpsolvers.available_solvers\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
        "needed = {'avalanche', 'mlflow.store.tracking.sqlalchemy_store', 'benchmark.engines.processes'}\n"
        "assert needed <= set(sys.modules) and 'jax' not in sys.modules\n"
        "assert threading.enumerate() == [threading.main_thread()] and not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
