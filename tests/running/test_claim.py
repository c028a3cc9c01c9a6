"""Of several processes that are asked for one run, one carries it out."""

from __future__ import annotations

import multiprocessing

from benchmark.running.claim import claim, clear_claims


def _claim_and_die(folder):
    claim(folder, "run").__enter__()


def _count(folder, results):
    with claim(folder, "run") as is_ours:
        results.put(is_ours)


def test_it_is_had_by_one_and_freed_when_that_one_ends(tmp_path):
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    with claim(tmp_path, "run") as is_ours, claim(tmp_path, "other run") as other:
        assert is_ours and other
        process = fork.Process(target=_count, args=(tmp_path, results))
        process.start()
        assert results.get(timeout=30) is False
        process.join()
    with claim(tmp_path, "run") as is_ours:
        assert is_ours
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_leaves_no_claim(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_claim_and_die, args=(tmp_path,))
    process.start()
    process.join()
    with claim(tmp_path, "run") as is_ours:
        assert is_ours


def test_what_the_dead_have_left_is_cleared_and_what_the_living_have_is_not(tmp_path):
    (tmp_path / "dead.lock").touch()
    with claim(tmp_path, "alive"):
        process = multiprocessing.get_context("fork").Process(target=clear_claims, args=(tmp_path,))
        process.start()
        process.join()
        assert [path.name for path in tmp_path.iterdir()] == ["alive.lock"]
