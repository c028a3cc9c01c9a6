"""The catalogue in docs/ is what the docstrings say now."""

from __future__ import annotations

from pathlib import Path

from benchmark.catalogue import markdown, pages

CATALOGUE = Path(__file__).parents[2] / "docs" / "catalogue"


def test_the_catalogue_is_up_to_date():
    """If not: python -m benchmark.catalogue."""
    written = {str(path.relative_to(CATALOGUE)): path.read_text(encoding="utf-8") for path in CATALOGUE.rglob("*.md")}
    made = pages()
    assert written.keys() == made.keys()
    assert [name for name in made if written[name] != made[name]] == []


def test_docstring_markup_becomes_markdown():
    text = "Uses ``x`` of :class:`masks.Masks`.\n\nRaises:\n    ValueError: never,\n        nor ever."
    assert markdown(text) == "Uses `x` of `masks.Masks`.\n\n**Raises**\n\n- ValueError: never,\n  nor ever."
