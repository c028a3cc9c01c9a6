"""Options from YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import UsageError

WORDS = {"set": "settings"}
"""Other words for options in a file."""


def load_file(path: Path) -> list[dict[str, Any]]:
    """Options from a YAML file, one mapping for each of its documents; ``set`` is another word for ``settings``.

    Raises:
        UsageError: it cannot be read, or does not hold mappings.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not documents or not all(isinstance(content, dict) for content in documents):
        raise UsageError(f"{path} must hold options, one 'name: value' a line")
    return [
        {WORDS.get(str(name), str(name).replace("-", "_")): value for name, value in content.items()}
        for content in documents
    ]
