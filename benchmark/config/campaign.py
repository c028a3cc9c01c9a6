"""Campaigns: many runs under one name, as grids with further blocks, blocks left out, and options of one strategy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.config.density import density_of_tau
from benchmark.config.files import WORDS
from benchmark.config.merge import merge
from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError, plain, shortened

OWN = ("name", "include", "exclude", "per_strategy")
"""What a campaign's file says beside the options of its runs."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""What a campaign may be called: it becomes the name of a run, an argument of commands and of file names."""


@dataclass(frozen=True)
class Campaign:
    """Many runs under one name.

    Attributes:
        name: of the campaign.
        grids: option -> value or list of values, a mapping for each grid; ``profile`` may be among them.
        excluded: option -> value or list of values: runs for which all of a mapping's options have one of these values
            are left out.
        is_whole: whether these are all its runs; the command line may have asked for some of a file's.
    """

    name: str
    grids: Sequence[Mapping[str, Any]]
    excluded: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    is_whole: bool = True


def read_campaign(documents: Sequence[Mapping[str, Any]], given: Mapping[str, Any], name: str | None) -> Campaign:
    """A campaign from what its file holds, with the options of the command line, which win.

    Args:
        documents: of the file, one; none where everything is given on the command line.
        given: options of the command line.
        name: of the campaign; None takes the file's.

    Raises:
        UsageError: the file holds something else than a campaign, or there is no name.
    """
    if len(documents) > 1:
        raise UsageError("the file of a campaign holds one document: put further cells under include")
    content = dict(documents[0]) if documents else {}
    own = {key: content.pop(key) for key in OWN if key in content}
    called = name if name is not None else own.get("name")
    if called is None:
        raise UsageError("a campaign has a name: give it with --name, or in its file as 'name: ...'")
    if not isinstance(called, str) or not NAME.fullmatch(called):
        raise UsageError(
            f"{shortened(called)} is no name of a campaign: take up to 80 letters, digits, '.', '_' and '-', in quotes "
            "in the file if it looks like a number"
        )
    base = merge(content, given)
    # A strategy that was asked for on the command line has its own options all the same.
    rest = {option: value for option, value in given.items() if option != "strategy"}
    blocks = _blocks(own, "include")
    _check_per_strategy(own.get("per_strategy") or {}, [content, *blocks])
    grids = [base] if base.get("strategy") or not blocks else []
    grids += [merge(merge(content, block), given) for block in blocks]
    dealt = [one for grid in grids for one in _per_strategy(grid, own, rest)]
    return Campaign(called, dealt, _excluded(own), is_whole=not (documents and given))


def leaves_out(block: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether a run has, for each option of ``block``, the value or one of the values there."""
    return all(
        any(_are_equal(getattr(config, option), value) for value in (wanted if isinstance(wanted, list) else [wanted]))
        for option, wanted in block.items()
    )


def _blocks(own: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    blocks = own.get(key) or []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) and block for block in blocks):
        raise UsageError(f"{key} holds a list, one '- option: value' for each block")
    return [_options(block) for block in blocks]


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
    return {WORDS.get(name, name.replace("-", "_")): value for name, value in block.items()}


def _excluded(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for block in _blocks(own, "exclude"):
        if "tau" in block:
            taus = block.pop("tau")
            block["density"] = [density_of_tau(tau) for tau in (taus if isinstance(taus, list) else [taus])]
        unknown = next((option for option in block if option not in RunConfig.model_fields), None)
        if unknown is not None:
            raise UsageError(f"exclude: there is no option {plain(unknown)}")
        found.append(block)
    return found


def _per_strategy(grid: Mapping[str, Any], own: Mapping[str, Any], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``grid`` as it is, or a grid for each of its strategies where some have options of their own."""
    parts, strategies = own.get("per_strategy") or {}, _strategies(grid)
    if set(parts).isdisjoint(map(str, strategies)):
        return [dict(grid)]
    return [merge(merge({**grid, "strategy": one}, _options(parts.get(str(one), {}))), given) for one in strategies]


def _strategies(grid: Mapping[str, Any]) -> list[Any]:
    found = grid.get("strategy", [])
    return found if isinstance(found, list) else [found]


def _check_per_strategy(parts: Any, grids: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that options of single strategies are options, of strategies that the file names."""
    if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise UsageError("per_strategy holds a strategy a line, and under it its options")
    named = {str(one) for grid in grids for one in _strategies(grid)}
    for strategy, part in parts.items():
        if strategy not in named:
            raise UsageError(f"per_strategy: {plain(strategy)} is none of the strategies of this file")
        if "strategy" in part:
            raise UsageError(f"per_strategy: {plain(strategy)} has a strategy among its options: use include")


def _are_equal(value: Any, wanted: Any) -> bool:
    """Whether an option has the value that a file names, which may write numbers in another way."""
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return all(name in value and _are_equal(value[name], one) for name, one in wanted.items())
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, int | float):
        try:
            return math.isclose(value, float(wanted), rel_tol=1e-9)
        except (TypeError, ValueError, OverflowError):
            return False
    return value == wanted or str(value) == str(wanted)
