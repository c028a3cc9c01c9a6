"""The page as one HTML file: data, style, program and the libraries that draw, all in it, and nothing asked for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import vl_convert

from leaderboards.numbers.report import Report
from leaderboards.render.page.charts import charts
from leaderboards.render.page.payload import payload

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""No address can be loaded from or written to; those scripts run whose digests are named, and no text of a store."""

UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters that end or change a script, as JSON can write them as well."""


def document(reports: Sequence[Report]) -> str:
    """The page of some boards, complete: HTML of one file. The same reports give the same page."""
    part = files("leaderboards.render.page")
    program, style = ((part / name).read_text("utf-8") for name in ("page.js", "page.css"))
    scripts = [_libraries(), program]
    return Template((part / "page.html").read_text("utf-8")).substitute(
        policy=POLICY.format(scripts=" ".join(f"'sha256-{_digest(script)}'" for script in scripts)),
        style=style,
        boards=as_script(payload(reports)),
        charts=as_script(charts()),
        libraries=scripts[0],
        program=scripts[1],
    )


def as_script(value: Any) -> str:
    """JSON that can stand in an element ``script``: nothing in it ends the element, or opens a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(UNSAFE.get(character, character) for character in text) if set(text) & set(UNSAFE) else text


@cache
def _libraries() -> str:
    """Vega, Vega-Lite and what embeds them, for a browser: a bundle takes seconds to make."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
