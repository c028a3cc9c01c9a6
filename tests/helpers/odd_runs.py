"""Texts that someone might call things, and runs in which everything is called one of them."""

from __future__ import annotations

import pandas as pd

from leaderboards.glossary import Glossary, Measure
from leaderboards.record import identity_key
from leaderboards.sources.collect import Records

ODD = [
    "<img src=x onerror=alert(1)>",
    "a\n## Another heading",
    "a\r\n\r\n| b | c |",
    "# a",
    "a #",
    "a | b",
    "a \\| b",
    "`a` b`",
    "[a](javascript:alert(1))",
    "![a](b)",
    "[a]: http://evil.example",
    "[a]",
    "<http://evil.example>",
    "*a* **b** _c_ __d__ ~~e~~ $f$",
    "&lt;b&gt; &#60; &amp; AT&T",
    "- a",
    "12. a",
    "[x] a",
    "---",
    "\\",
    "\x1b[2J\x1b]0;title\x07 \u202eabc \udcff",
    "../../etc/passwd",
    "a_b c-d e.f (g, h 0.5)",
]


def records_of(name):
    """Runs in which everything that can be named has this name."""
    measure = Measure("odd/one", name, name, "", places=("board", "baseline", "runs", "contrast"), better=1)
    runs = []
    for seed in (0, 1):
        for strategy in ("dense", name):
            for precision in ("fp32", name):
                protocol = {"megabatches": name, "precision": precision, "model": name, name: name}
                variant = {"strategy": strategy, "strategy_version": 1, "score": name, name: name, "many": [name]}
                key = identity_key(protocol=protocol, variant=variant, seed=seed, data_fingerprint=name)
                runs.append(
                    {
                        **{"run_id": f"{len(runs)}", "started": pd.Timestamp(len(runs), tz="UTC"), "density": 0.5},
                        **{"stream": "toy", "stream_label": name, "data": name, "data_version": name},
                        **{"data_fingerprint": name, "protocol": protocol, "variant": variant, "variant_defaults": {}},
                        **{"seed": seed, "identity": key, "hardware": name, "cpu_model": name, "commit": name},
                        "metrics.odd/one": 0.5 + seed,
                    }
                )
    return Records(pd.DataFrame(runs), Glossary([measure]))
