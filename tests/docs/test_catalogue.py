"""The catalogue in docs/ is what the docstrings say now."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from benchmark.catalogue import main, markdown, pages

CATALOGUE = Path(__file__).parents[2] / "docs" / "catalogue"


def test_the_catalogue_is_up_to_date():
    """If not: python -m benchmark.catalogue."""
    written = {str(path.relative_to(CATALOGUE)): path.read_text(encoding="utf-8") for path in CATALOGUE.rglob("*.md")}
    made = pages()
    assert written.keys() == made.keys()
    assert [name for name in made if written[name] != made[name]] == []


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["--output", str(tmp_path / "file")])
    assert done.exit_code == 2 and done.output.startswith("Error: cannot write to") and done.output.count("\n") == 1


def test_docstring_markup_becomes_markdown():
    text = "Uses ``x`` of :class:`masks.Masks`.\n\nRaises:\n    ValueError: never,\n        nor ever."
    assert markdown(text) == "Uses `x` of `masks.Masks`.\n\n**Raises**\n\n- ValueError: never,\n  nor ever."
