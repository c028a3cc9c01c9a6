"""Where a stream's images come from: real ones, or procedural stand-ins."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UsageError
from benchmark.registry import STREAMS


def source_of(stream: str, data: str, data_root: Path) -> str:
    """``real`` or ``synthetic``: which images ``stream`` would use, without reading any.

    ``auto`` means stand-ins only for streams without public download whose images are not in ``data_root``.

    Raises:
        UsageError: real images are asked of a stream that has none, or ``data_root`` cannot be looked into.
    """
    traits = STREAMS.load(stream).traits
    if traits.source == "synthetic":
        if data == "real":
            raise UsageError(f"the stream {stream} is synthetic by nature: choose another one or drop --data real")
        return "synthetic"
    if data == "auto" and traits.locate is not None:
        try:
            return "synthetic" if traits.locate(data_root) is None else "real"
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no folder can have this name"
            raise UsageError(f"cannot look into {data_root}: {reason}; name another folder with --data-root") from error
    return "synthetic" if data == "synthetic" else "real"
