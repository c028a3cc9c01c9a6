"""The command ``python -m benchmark.catalogue``: a page of documentation for everything that is registered."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import click

from benchmark.command.listing import HEADINGS
from leaderboards.ending import end_at_once
from leaderboards.glossary import Measure
from strategies.registry import Entry, Registry


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default="docs/catalogue", show_default=True, help="folder of the pages"
)
def main(output: Path) -> None:
    """Write a page for each stream, strategy, score, schedule, scope, structure, replay policy, model and metric.

    The pages are made from docstrings and registrations; entries of installed packages have one, too.
    """
    try:
        for name, text in pages().items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"Error: cannot write to {output}: {error.strerror}; choose a folder with --output", err=True)
        sys.exit(2)
    click.echo(f"Wrote {output / 'README.md'}")


def pages() -> dict[str, str]:
    """File name -> markdown, one page an entry and the index ``README.md``."""
    found: dict[str, str] = {}
    index = ["# Catalogue", "What can be run, made from the docstrings by `python -m benchmark.catalogue`."]
    for heading, registry in HEADINGS.items():
        index.append(f"## {heading}")
        lines = []
        for name, description in registry.descriptions().items():
            path = f"{file_name(registry.kind)}/{file_name(name)}.md"
            found[path] = page(registry, registry.load(name), flag=next(iter(re.findall(r"--[a-z]+", heading)), ""))
            lines.append(f"- [{name}]({path}): {markdown(description)}")
        index.append("\n".join(lines))
    return found | {"README.md": "\n\n".join(index) + "\n"}


def page(registry: Registry[Any], entry: Entry[Any], flag: str) -> str:
    """One entry: how to ask for it, what it is, where it comes from."""
    asked = f": `{flag} {entry.name}`" if flag else ""
    facts = [f"- {registry.kind}, version {entry.version}{asked}"]
    if entry.reference:
        facts.append(f"- source: {entry.reference}")
    if getattr(entry.traits, "options", ()):
        facts.append("- reads " + ", ".join(f"`--{name.replace('_', '-')}`" for name in entry.traits.options))
    if getattr(entry.traits, "defaults", {}):
        own = (f"`--{name.replace('_', '-')} {value}`" for name, value in entry.traits.defaults.items())
        facts.append(f"- its own defaults: {', '.join(own)}")
    facts += [f"- setting `--set {name}={value}` (the default)" for name, value in entry.settings.items()]
    facts += [f"- `{one.name}`: {explain(one)}" for one in getattr(entry.traits, "measures", ())]
    doc = inspect.cleandoc(entry.target.__doc__ or "")
    return f"# {entry.name}\n\n" + "\n".join(facts) + f"\n\n{markdown(doc)}\n"


def explain(measure: Measure) -> str:
    """What a series of a metric is, in one line."""
    better = {1: "; higher is better", -1: "; lower is better", 0: ""}[measure.better]
    return f"**{measure.title}**, {measure.meaning} ({measure.unit}{better})"


def markdown(text: str) -> str:
    """Docstring markup as markdown: double backquotes and roles become code, sections such as Attributes lists."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = text.replace("``", "`")
    text = re.sub(r"^(Args|Attributes|Returns|Raises|Warns):$", r"**\1**\n", text, flags=re.M)
    return re.sub(r"^ {8}", "  ", re.sub(r"^ {4}(?=\S)", "- ", text, flags=re.M), flags=re.M)


def file_name(name: str) -> str:
    """``name`` without what a path cannot have."""
    return re.sub(r"[^\w.-]", "-", name)


if __name__ == "__main__":
    end_at_once(main)
