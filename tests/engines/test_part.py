"""Parts of a campaign, for machines that know nothing of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.engines.part import Part
from benchmark.errors import UsageError

IDENTITIES = st.lists(st.text("0123456789abcdef", min_size=12, max_size=12), unique=True, max_size=60)


@given(IDENTITIES, st.integers(1, 12), st.randoms())
def test_each_run_is_in_one_part_and_parts_are_equally_large(identities, parts, random):
    found = [Part(number, parts).of(identities) for number in range(1, parts + 1)]
    assert sorted(position for part in found for position in part) == list(range(len(identities)))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    shuffled = random.sample(identities, len(identities))
    for number, part in enumerate(found, start=1):
        again = {shuffled[position] for position in Part(number, parts).of(shuffled)}
        assert again == {identities[position] for position in part}, "the order of the campaign does not count"


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5", "１/3", "1/" + "9" * 400, ""])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(UsageError, match="K/N"):
        Part.parse(text)


def test_a_part_is_read_as_it_is_written():
    assert str(Part.parse("3/20")) == "3/20" and Part.parse("3/20") == Part(3, 20)
