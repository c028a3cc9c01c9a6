"""The record of a run: its name, parameters, tags and data set, as the MLflow store keeps them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from benchmark.config.fields import earlier_values
from benchmark.config.run_config import MAX_PIXELS, RunConfig
from benchmark.recording.code import code_fingerprint
from benchmark.recording.provenance import provenance
from benchmark.streams.build import Stream
from leaderboards.numbers.names import variant_name
from leaderboards.record import PREFIX, fingerprint


@dataclass(frozen=True)
class RunRecord:
    """What is written down when a run begins.

    Attributes:
        name: for a reader of MLflow's pages: stream, variant and seed.
        params: every field of the configuration.
        tags: what boards are made from, and provenance.
        dataset: which images; None: nothing is said of them.
    """

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    dataset: Dataset | None = None

    def own_tags(self) -> dict[str, str]:
        """The benchmark's tags, without their prefix, and the name."""
        own = {name.removeprefix(PREFIX): text for name, text in self.tags.items() if name.startswith(PREFIX)}
        return own | {"name": self.name}


def name_run(config: RunConfig) -> str:
    """A name that tells variants and seeds of one stream apart."""
    return f"{config.stream} {variant_name(config.variant(), defaults=config.default_variant())} seed {config.seed}"


def describe_run(config: RunConfig, stream: Stream, profile: str, device: str) -> RunRecord:
    """The record of a run of ``config`` on ``stream``; ``profile`` is the one that completed the configuration."""
    identity = config.identity(stream.fingerprint)
    data = stream.data
    own = {
        "identity": identity.key,
        "stream": config.stream,
        "stream_label": data.label,
        "data": data.source,
        "data_version": str(data.version),
        "data_fingerprint": stream.fingerprint,
        "skipped_images": str(len(data.skipped)),
        "train_images": str(len(data.train)),
        "test_images": str(len(data.test)),
        "protocol": json.dumps(identity.protocol, sort_keys=True),
        "protocol_fingerprint": fingerprint(identity.protocol),
        "variant": json.dumps(identity.variant, sort_keys=True),
        "variant_fingerprint": fingerprint(identity.variant),
        "variant_defaults": json.dumps(config.default_variant(), sort_keys=True),
        "earlier": json.dumps(earlier_values(RunConfig), sort_keys=True),
        "seed": str(config.seed),
        "profile": profile,
        "compiled": "yes" if config.compile else "no",
        "code": code_fingerprint(config),
        **({} if config.max_pixels == MAX_PIXELS else {"max_pixels": str(config.max_pixels)}),
    }
    origin = provenance(device)
    tags = {PREFIX + name: value for name, value in (own | origin).items()} | source_tags()
    if origin["commit"] != "unknown":
        tags[MLFLOW_GIT_COMMIT] = origin["commit"]
    return RunRecord(name_run(config), config.model_dump(mode="json"), tags, _dataset(stream))


def source_tags() -> dict[str, str]:
    """What MLflow shows as the source of a run: the program that was started."""
    return {MLFLOW_SOURCE_NAME: Path(sys.argv[0]).name, MLFLOW_SOURCE_TYPE: "LOCAL"}


def _dataset(stream: Stream) -> Dataset:
    data = stream.data
    source = {"kind": data.source, "version": data.version, "label": data.label}
    profile = {"train_images": len(data.train), "test_images": len(data.test), "classes": len(data.classes)}
    return Dataset(
        name=data.label,
        digest=stream.fingerprint,
        source_type=data.source,
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
