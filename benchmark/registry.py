"""The registries of streams and models; those of strategies, scores and scopes are in :mod:`strategies.registry`."""

from __future__ import annotations

from strategies.registry import Registry

STREAMS = Registry("stream", "STREAMS", "benchmark.streams", "anytime_bench.streams")
MODELS = Registry("model", "MODELS", "benchmark.models", "anytime_bench.models")
