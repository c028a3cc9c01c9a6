"""The tables that a run ends with in the terminal."""

from __future__ import annotations

from tabulate import tabulate

from benchmark.running.result import RunResult

COLUMNS = {
    "density": ("size/density", "{:.4f}"),
    "train": ("train/accuracy", "{:.4f}"),
    "valid": ("valid/accuracy", "{:.4f}"),
    "test": ("test/accuracy", "{:.4f}"),
    "errors": ("test/errors", "{:.0f}"),
    "ARE": ("anytime/are", "{:+.4f}"),
}

TOTALS = {
    "CER (wrong test images, all megabatches)": ("anytime/cer", "{:,.0f}"),
    "CER rate": ("anytime/cer_rate", "{:.4f}"),
    "average anytime accuracy": ("anytime/average_accuracy", "{:.4f}"),
    "final test accuracy": ("test/accuracy", "{:.4f}"),
    "last ARE": ("anytime/are", "{:+.4f}"),
    "generalisation gap, reference (train mode, augmented - validation)": ("gap/reference", "{:+.4f}"),
    "generalisation gap, clean (eval mode, training - test)": ("gap/clean", "{:+.4f}"),
    "applied density, prunable weights": ("size/density", "{:.4f}"),
    "applied density, all parameters": ("size/density_all", "{:.4f}"),
    "nonzero prunable weights": ("size/nonzeros", "{:,.0f}"),
    "bytes, bitmask + values": ("size/bytes_bitmask", "{:,.0f}"),
    "bytes, bitmask + values, dense": ("size/dense_bytes_bitmask", "{:,.0f}"),
    "bytes, CSR with 32-bit indices": ("size/bytes_csr_int32", "{:,.0f}"),
    "bytes, CSR with 32-bit indices, dense": ("size/dense_bytes_csr_int32", "{:,.0f}"),
    "bytes, zlib level 1": ("size/bytes_zlib1", "{:,.0f}"),
    "bytes, zlib level 1, dense": ("size/dense_bytes_zlib1", "{:,.0f}"),
    "training FLOPs": ("compute/train_flops", "{:.3e}"),
    "training FLOPs if zeros were skipped": ("compute/train_flops_if_skipped", "{:.3e}"),
    "scoring FLOPs": ("compute/scoring_flops", "{:.3e}"),
    "validation FLOPs": ("compute/validation_flops", "{:.3e}"),
    "test FLOPs": ("compute/test_flops", "{:.3e}"),
    "training time, seconds": ("time/train_seconds", "{:.1f}"),
    "peak memory, MiB": ("memory/peak_mib", "{:,.0f}"),
}


def summarise(result: RunResult) -> str:
    """One row a megabatch, then the totals; an empty cell where a megabatch has no value."""
    rows = []
    for megabatch in range(1, result.config.megabatches + 1):
        values = [(result.at(name, megabatch), form) for name, form in COLUMNS.values()]
        rows.append([megabatch, *("" if value is None else form.format(value) for value, form in values)])
    each = tabulate(rows, headers=["megabatch", *COLUMNS], disable_numparse=True, stralign="right")
    known = [(label, form.format(result.final(n))) for label, (n, form) in TOTALS.items() if n in result.series]
    totals = tabulate(known, disable_numparse=True, colalign=("left", "right"), tablefmt="plain")
    return f"{each}\n\n{totals}"
