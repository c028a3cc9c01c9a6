"""The identity of a recorded run, and fields of the protocol that came later."""

from __future__ import annotations

import json

from leaderboards.numbers.boards import boards
from leaderboards.record import identity_key
from leaderboards.sources.collect import collect

PARTS = {"protocol": {"b": 1, "a": 2}, "variant": {"strategy": "APP"}, "seed": 3, "data_fingerprint": "f"}


def test_the_identity_depends_on_every_part_and_on_no_order():
    key = identity_key(**PARTS)
    assert key == identity_key(**{**PARTS, "protocol": {"a": 2, "b": 1}})
    others = [{"protocol": {"a": 2}}, {"variant": {"strategy": "OSP"}}, {"seed": 4}, {"data_fingerprint": "g"}]
    assert len({key, *(identity_key(**{**PARTS, **other}) for other in others)}) == 5


def test_newer_records_say_what_older_ones_had(store):
    store.add(seed=0, anytime__cer_rate=0.1)
    earlier = {"earlier": json.dumps({"optimizer": "sgd"})}
    store.add(seed=1, protocol={"optimizer": "sgd"}, tags=earlier, anytime__cer_rate=0.2)
    store.add(seed=1, protocol={"optimizer": "adamw"}, tags=earlier, anytime__cer_rate=0.3)
    found = {board.protocol["optimizer"]: len(board.runs) for board in boards(collect(store.uri))}
    assert found == {"sgd": 2, "adamw": 1}
