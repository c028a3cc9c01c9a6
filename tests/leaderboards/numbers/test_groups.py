"""Groups of rows of long boards."""

from __future__ import annotations

from leaderboards.numbers.groups import AVALANCHE, DENSE, GROUPS, OF_STRATEGY, OTHER, PROGRESSIVE, STRUCTURED, group_of
from strategies.registry import STRATEGIES


def test_every_strategy_of_the_suite_has_a_group_and_no_other_has():
    assert set(OF_STRATEGY) == set(STRATEGIES.names())
    assert set(OF_STRATEGY.values()) | {STRUCTURED, OTHER} == set(GROUPS)


def test_structure_makes_the_group_but_not_under_strategies_of_avalanche():
    assert group_of({"strategy": "dense"}) == DENSE
    assert group_of({"strategy": "APP", "structure": "unstructured"}) == PROGRESSIVE
    assert group_of({"strategy": "APP", "structure": "2:4"}) == STRUCTURED
    assert group_of({"strategy": "OSP", "structure": "filters"}) == STRUCTURED
    assert group_of({"strategy": "EWC", "structure": "filters"}) == AVALANCHE
    assert group_of({"strategy": "a third party's"}) == OTHER
