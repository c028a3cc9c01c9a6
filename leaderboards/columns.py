"""The columns of a leaderboard: which metric, how it is written, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """``better`` is +1 where higher is better, -1 where lower is, 0 where it is a fact and no merit."""

    key: str
    metric: str
    title: str
    form: str
    better: int
    meaning: str


COLUMNS = (
    Column("cer_rate", "anytime/cer_rate", "CER rate", "{:.4f}", -1, "CER divided by B times the test images"),
    Column("cer", "anytime/cer", "CER", "{:,.0f}", -1, "cumulative errors: wrong test images of all megabatches"),
    Column("accuracy", "test/accuracy", "Final accuracy", "{:.4f}", 1, "test accuracy after the last megabatch"),
    Column(
        "anytime", "anytime/average_accuracy", "Anytime accuracy", "{:.4f}", 1, "mean test accuracy of the megabatches"
    ),
    Column("are", "anytime/are", "ARE", "{:+.4f}", -1, "last change of the test error rate; negative is better"),
    Column(
        "gap_reference",
        "gap/reference",
        "Gap (reference)",
        "{:+.4f}",
        -1,
        "running training accuracy on augmented batches minus validation accuracy, selected epoch, last megabatch",
    ),
    Column(
        "gap_clean",
        "gap/clean",
        "Gap (clean)",
        "{:+.4f}",
        -1,
        "eval-mode accuracy on the training data minus test accuracy, last megabatch",
    ),
    Column("density", "size/density", "Density", "{:.4f}", 0, "applied at the end: nonzero prunable weights"),
    Column("density_all", "size/density_all", "Density (all)", "{:.4f}", 0, "the same over all parameters"),
    Column("bytes", "size/bytes_bitmask", "Bytes", "{:,.0f}", -1, "of the stored network, bitmask and values"),
    Column("zlib", "size/bytes_zlib1", "Bytes (zlib-1)", "{:,.0f}", -1, "of the compressed state dict"),
    Column("flops", "compute/train_flops", "Training FLOPs", "{:.3e}", -1, "dense kernels, forward and backward"),
    Column(
        "flops_if_skipped",
        "compute/train_flops_if_skipped",
        "FLOPs if zeros skipped",
        "{:.3e}",
        -1,
        "theoretical: no ordinary kernel skips zeros at these densities",
    ),
    Column("seconds", "time/train_seconds", "Time (s)", "{:,.0f}", 0, "wall time of training, on the hardware below"),
)

BY_KEY = {column.key: column for column in COLUMNS}
