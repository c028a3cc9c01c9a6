"""bfloat16 on a CPU: fast where it has instructions for it, and a trap where it has none."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

SLOW_BF16 = (
    "Note: --precision bf16, but this processor has no bf16 instructions: on such a one (AVX2) it was 11 times slower "
    "than fp32."
)

INSTRUCTIONS = {
    "flags": {"avx512_bf16", "amx_bf16"},
    "Features": {"bf16", "svebf16"},
}
"""Line of Linux's /proc/cpuinfo, on x86 and on ARM -> its words for instructions that multiply in bfloat16."""


def has_bf16_instructions(cpuinfo: Path = CPUINFO) -> bool | None:
    """Whether the processor multiplies in bfloat16; None where the system does not say it in the manner of Linux."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, words = line.partition(":")
        if name.strip() in INSTRUCTIONS:
            return not INSTRUCTIONS[name.strip()].isdisjoint(words.split())
    return None
