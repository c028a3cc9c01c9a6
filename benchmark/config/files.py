"""Options from YAML files."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import UsageError, plain, shortened

WORDS = {"set": "settings", "protocol": "scenario"}
"""Other words for options in a file."""

LARGEST_FILE = 2**18
"""Bytes of a file: three times a list of ten thousand seeds."""

MOST_VALUES = 20_000
"""Names, values, lists and mappings of a file."""

MOST_DOCUMENTS = 1_000
"""Documents of a file."""

DEEPEST = 8
"""Lists and mappings within each other; options need three."""

LONGEST_TEXT = 1_000
"""Characters of a name or value."""

KINDS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))
"""What options are made of, as YAML calls it; no dates, sets or bytes."""

TEXT = "tag:yaml.org,2002:str"


def load_file(path: Path) -> list[dict[str, Any]]:
    """Options from a YAML file, one mapping for each of its documents; :data:`WORDS` may stand for others.

    Names are texts as they are written: ``3`` and ``no`` are no number and no truth value there.

    Raises:
        UsageError: it cannot be read, does not hold mappings, says something twice, or is larger or more deeply nested
            than options are.
    """
    content = _read(path)
    documents = []
    try:
        loader = _Loader(content)
        while loader.check_data():
            documents.append(loader.get_data())
            if len(documents) > MOST_DOCUMENTS:
                raise UsageError(f"{path} holds more than {MOST_DOCUMENTS:,} documents: split it into several files")
    except _Refused as error:
        raise UsageError(f"{path}{_place(error)}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"{path} is not valid YAML{_place(error)}: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not documents or not all(isinstance(content, dict) for content in documents):
        raise UsageError(f"{path} must hold options, one 'name: value' a line")
    return [_options(document, path) for document in documents]


def _read(path: Path) -> bytes:
    """The content of a file; of anything else, such as a pipe, reading might never end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"cannot read {path}: it is a folder, a pipe or a device; --config takes a file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        # Names with null bytes, or with what no file name can be encoded from.
        raise UsageError(f"cannot read {path}: no file can have this name") from error
    if len(content) > LARGEST_FILE:
        raise UsageError(
            f"{path} is larger than {LARGEST_FILE:,} bytes: a file of options is not; split it into several"
        )
    return content


def _options(document: dict[str, Any], path: Path) -> dict[str, Any]:
    written: dict[str, str] = {}
    for name in document:
        option = WORDS.get(name, name.replace("-", "_"))
        if option in written:
            raise UsageError(f"{path} says {written[option]} and {name}, which are one option: leave out one of them")
        written[option] = name
    return {option: document[name] for option, name in written.items()}


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}" if mark else ""


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that options cannot be made of."""

    def __init__(self, problem: str, place: yaml.Mark):
        super().__init__(problem=problem, problem_mark=place)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without what options do not need: its bounds hold before anything large is made."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self._depth = self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A value with all that is in it, within the limits."""
        event = self.peek_event()
        place = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise _Refused("an alias (*name) stands for another value: write the value out", place)
        self._values += 1
        if self._values > MOST_VALUES:
            raise _Refused(f"there are more than {MOST_VALUES:,} names and values: split the file into several", place)
        if self._depth == DEEPEST and isinstance(event, yaml.CollectionStartEvent):
            raise _Refused(f"lists and mappings are nested more than {DEEPEST} deep: options are not", place)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node.tag not in KINDS:
            kind = plain(node.tag.removeprefix("tag:yaml.org,2002:"))
            raise _Refused(f"options have no values of the type {kind}: write a text in quotes", place)
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_TEXT:
            raise _Refused(f"{shortened(node.value)} is longer than {LONGEST_TEXT:,} characters: shorten it", place)
        return node

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """A mapping whose names are texts, each given once."""
        node = super().compose_mapping_node(anchor)
        names = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise _Refused("a list or a mapping stands where a name should: write 'name: value'", name.start_mark)
            if name.value in names:
                raise _Refused(f"{shortened(name.value)} is given more than once: give it once", name.start_mark)
            names.add(name.value)
            name.tag = TEXT
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            # PyYAML calls many a text a number, or takes its word for it, and then cannot read it.
            raise _Refused(
                f"{shortened(node.value)} cannot be read: write a text in quotes", node.start_mark
            ) from error
