"""bf16 on processors with and without instructions for it."""

from __future__ import annotations

import pytest

from benchmark.config.profiles import resolve
from benchmark.running import prepare as preparing
from benchmark.running.bf16 import SLOW_BF16, has_bf16_instructions
from benchmark.running.prepare import prepare

CPUINFO = {
    "processor : 0\nmodel name: EPYC 7\nflags\t\t: fpu sse2 avx2 f16c\npower : 2\n": False,
    "processor : 0\nflags\t\t: fpu avx2 avx512f avx512vl avx512_vnni\n": False,
    "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n": True,
    "processor : 0\nflags\t\t: fpu avx2 amx_bf16 amx_tile\n": True,
    "processor\t: 0\nBogoMIPS : 50\nFeatures\t: fp asimd sve bf16 i8mm\n": True,
    "processor\t: 0\nFeatures\t: fp asimd crc32\n": False,
    "processor : 0\nisa : rv64imafdc\n": None,
}
"""/proc/cpuinfo -> whether the processor multiplies in bfloat16."""


@pytest.mark.parametrize("text", CPUINFO)
def test_instructions_are_read_from_cpuinfo(tmp_path, text):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bf16_instructions(tmp_path / "cpuinfo") is CPUINFO[text]


def test_nothing_is_known_of_other_systems(tmp_path):
    assert has_bf16_instructions(tmp_path / "cpuinfo") is None


@pytest.mark.parametrize(
    ("precision", "has_it", "notes"),
    [("bf16", False, (SLOW_BF16,)), ("bf16", True, ()), ("bf16", None, ()), ("fp32", False, ())],
)
def test_only_bf16_without_instructions_is_worth_a_note(tmp_path, monkeypatch, precision, has_it, notes):
    monkeypatch.setattr(preparing, "has_bf16_instructions", lambda: has_it)
    options = {"stream": "digits", "strategy": "dense", "precision": precision, "device": "cpu"}
    assert prepare(resolve(options, profile="demo"), data_root=tmp_path, cache=tmp_path).notes == notes
