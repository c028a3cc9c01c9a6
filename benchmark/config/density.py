"""The final density of a run, however it is written: as a density, as APP's tau, or by a structure such as 2:4."""

from __future__ import annotations

from typing import Any

from benchmark.errors import UsageError, shortened
from strategies.pruning.schedules import STEP
from strategies.pruning.structures import structure_named
from strategies.registry import RegistryError

LARGEST_TAU = 1000.0
"""Of a larger one not even the smallest of floating-point densities is left."""


def with_density(options: dict[str, Any], *, structured: bool) -> dict[str, Any]:
    """``options`` with ``density`` in place of ``tau`` or of what the structure says; untouched if nothing says it.

    Args:
        options: option -> value, as they were given.
        structured: whether the strategy reads the option ``structure``.

    Raises:
        UsageError: two of them contradict each other, or tau is no number in (0, 1000].
    """
    rest = {name: value for name, value in options.items() if name != "tau"}
    if "tau" in options:
        if "density" in options:
            raise UsageError("--tau and --density say the same thing: give one of them")
        rest["density"] = density_of_tau(options["tau"])
    # Anything but a text is refused as a structure, in words of its own.
    named = structured and isinstance(rest.get("structure"), str)
    fixed = _of_structure(rest["structure"]) if named else None
    if fixed is None:
        return rest
    try:
        contradicted = "density" in rest and not abs(float(rest["density"]) - fixed) <= 1e-9
    except (TypeError, ValueError, OverflowError):
        contradicted = True
    if contradicted:
        raise UsageError(f"--structure {rest['structure']} ends at density {fixed:g}: leave out --density and --tau")
    return {**rest, "density": fixed}


def density_of_tau(tau: Any) -> float:
    """``0.8 ** tau``.

    Raises:
        UsageError: tau is no number in (0, 1000].
    """
    try:
        value = float(tau)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"--tau: a number is needed, not {shortened(tau)}") from error
    if not 0 < value <= LARGEST_TAU:
        raise UsageError(f"--tau: the final density is {STEP} ** tau, with tau above 0 and at most 1000; not {value}")
    return float(STEP**value)


def _of_structure(structure: str) -> float | None:
    try:
        return structure_named(structure).final_density
    except RegistryError as error:
        raise UsageError(str(error)) from error
