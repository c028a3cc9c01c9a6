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


def test_a_module_for_later_is_imported_when_something_of_it_is_used(monkeypatch, tmp_path):
    (tmp_path / "costly.py").write_text("def used():\n    return 'used'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "LATER", {"costly": ("looked_for",), "sys": ()})
    with libraries_imported():
        import costly

        # As whoever looks through all modules does.
        assert not hasattr(costly, "__file__") and hasattr(costly, "looked_for")
        assert sys.modules["costly"] is costly and sys.modules["sys"] is sys
    assert "costly" not in sys.modules
    assert costly.used() == "used" and sys.modules["costly"] is not costly
    with pytest.raises(AttributeError):
        costly.absent  # noqa: B018
    monkeypatch.delitem(sys.modules, "costly")
    with libraries_imported():
        from costly import used
    assert used() == "used"
    monkeypatch.delitem(sys.modules, "costly")


@pytest.mark.slow
def test_the_process_that_others_are_forked_from_has_imported_their_libraries_and_done_nothing_else():
    look = (
        "import sys, threading, benchmark.engines.preload, torch\n"
        "from benchmark.engines.imports import LATER, UNUSED\n"
        "needed = {'avalanche', 'mlflow.store.tracking.sqlalchemy_store', 'benchmark.engines.processes'}\n"
        "assert needed <= set(sys.modules)\n"
        "assert threading.enumerate() == [threading.main_thread()] and not torch.cuda.is_initialized()\n"
        # What is not used was not imported, and can be later.
        "assert not {*UNUSED, *LATER} & set(sys.modules)\n"
        "import avalanche.evaluation.metrics.confusion_matrix as confusion, scipy.signal\n"
        "assert confusion.wandb.plot.confusion_matrix and scipy.signal.windows.hamming(3)[1] == 1\n"
        "import qpsolvers\n"
        "assert 'quadprog' in qpsolvers.available_solvers\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
