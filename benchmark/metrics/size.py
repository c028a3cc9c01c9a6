"""Size: applied density, nonzeros, and the bytes that three ways of storing the network take."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from benchmark.metrics.series import Test, TestMetric, shifting
from benchmark.registry import METRICS
from leaderboards.glossary import Measure
from strategies.learning.remembered import remembered
from strategies.learning.roles import NetworkPerTask, handed_over, network_per_task
from strategies.pruning.masks import Masks, prunable_weights

CSR_INDEX_BYTES = 4
"""Column indices and row pointers of the CSR estimate are 32-bit integers."""

ZLIB_LEVEL = 1
"""Of the compressed form: zlib at this level over all tensors, raw little-endian values one after the other."""


def density_values(model: nn.Module) -> dict[str, float]:
    """What is applied to the weights now, whatever was asked for: zeros are counted, not masks.

    ``size/density`` is the kept fraction of the prunable weights, ``size/density_all`` that of all parameters,
    ``size/nonzeros`` the number of nonzero prunable weights, ``size/empty_layers`` that of prunable layers without any.
    """
    kept = Masks.of(prunable_weights(model))
    everything = sum(p.numel() for p in model.parameters())
    return {
        "size/density": kept.density,
        "size/density_all": (everything - (kept.size - kept.nonzeros)) / everything,
        "size/nonzeros": float(kept.nonzeros),
        "size/empty_layers": float(sum(not bool(mask.any()) for mask in kept.values())),
    }


def storage_bytes(model: nn.Module) -> dict[str, float]:
    """Bytes of the state dict (batch norm and buffers included), stored two ways.

    ``bitmask``: prunable weights as one bit each plus the nonzero values, all else as it is. ``csr_int32``:
    prunable weights as rows of output channels with 32-bit column indices and row pointers.
    """
    state: Mapping[str, Tensor] = model.state_dict()
    prunable = prunable_weights(model)
    rest = sum(t.numel() * t.element_size() for name, t in state.items() if name not in prunable)
    bitmask = csr = rest
    for weight in prunable.values():
        nonzeros, value_bytes = int(weight.count_nonzero()), weight.element_size()
        bitmask += -(-weight.numel() // 8) + nonzeros * value_bytes
        csr += nonzeros * (value_bytes + CSR_INDEX_BYTES) + (len(weight) + 1) * CSR_INDEX_BYTES
    return {"bitmask": float(bitmask), "csr_int32": float(csr)}


def compressed_bytes(model: nn.Module) -> dict[str, float]:
    """Bytes of the state dict as ``zlib1``: all tensors compressed together. Takes a second for some 30 MB."""
    packer = zlib.compressobj(ZLIB_LEVEL)
    tensors = (t.detach().cpu().contiguous().numpy() for t in model.state_dict().values())
    compressed = sum(len(packer.compress(tensor.tobytes())) for tensor in tensors)
    return {"zlib1": float(compressed + len(packer.flush()))}


def task_density(networks: NetworkPerTask) -> float:
    """Kept fraction of the prunable weights in the network of a task, mean over the tasks."""
    return sum(Masks(masks).density for masks in networks.masks.values()) / len(networks.masks)


def packed_task_masks(networks: NetworkPerTask, model: nn.Module) -> bytes:
    """What tells the networks of the tasks apart, as bytes: for each task a bit for each nonzero weight of ``model``.

    ``model`` holds the weights that any task uses.
    """
    used = Masks.of(prunable_weights(model))
    bits = [masks[name][used[name]].cpu().numpy() for masks in networks.masks.values() for name in used]
    return np.packbits(np.concatenate(bits)).tobytes()


def _bytes(form: str, title: str, meaning: str, position: int, key: str = "") -> tuple[Measure, Measure]:
    """A storage form: the network's bytes, and those of the dense one beside them."""
    board = ("board",) if key else ()
    return (
        Measure(f"size/bytes_{form}", title, meaning, "bytes", "{:,.0f}", -1, key, position, (*board, "totals")),
        Measure(
            f"size/dense_bytes_{form}",
            f"{title}, dense",
            f"{meaning}, before any pruning",
            "bytes",
            "{:,.0f}",
            position=position + 1,
            places=("totals",),
        ),
    )


@METRICS.register(
    "size",
    order=20,
    measures=(
        Measure(
            "size/mean_density",
            "Mean density",
            "mean over the megabatches of the applied density: what CER was paid with",
            "fraction",
            key="mean_density",
            position=75,
            places=("board", "totals"),
        ),
        Measure(
            "size/density",
            "Density",
            "applied at the end: nonzero prunable weights",
            "fraction",
            key="density",
            position=80,
            places=("board", "runs", "megabatches", "totals"),
            short="density",
        ),
        Measure(
            "size/task_density",
            "Density of a task",
            "of the network that answers for a task, mean over the tasks: where each has a mask of its own",
            "fraction",
            key="task_density",
            position=85,
            places=("board", "totals"),
        ),
        Measure(
            "size/density_all",
            "Density (all)",
            "the same over all parameters",
            "fraction",
            key="density_all",
            position=90,
            places=("board", "totals"),
        ),
        Measure("size/nonzeros", "Nonzeros", "prunable weights", "weights", "{:,.0f}", position=95, places=("totals",)),
        Measure(
            "size/empty_layers",
            "Empty layers",
            "layers without any weight left, which only a shortcut or a bias gets a signal past",
            "layers",
            "{:,.0f}",
            position=97,
            places=("totals",),
        ),
        Measure(
            "size/memory_bytes",
            "Memory (bytes)",
            "what is kept from one experience to the next: stored network, remembered images, and other numbers",
            "bytes",
            "{:,.0f}",
            -1,
            "memory",
            106,
            ("board", "totals"),
        ),
        Measure(
            "size/memory_images",
            "Images kept",
            "remembered as such, for validation too; those kept as numbers are in the bytes alone",
            "images",
            "{:,.0f}",
            -1,
        ),
        *_bytes("bitmask", "Bytes", "of the stored network, bitmask and values", 100, "bytes"),
        *_bytes("csr_int32", "Bytes (CSR)", "of the stored network, rows with 32-bit indices", 104),
        *_bytes("zlib1", "Bytes (zlib-1)", "of the compressed state dict", 110, "zlib"),
    ),
)
class ModelSize(TestMetric):
    """Density, nonzeros and bytes of the model handed over, beside the same network before any pruning.

    Where each task has a network of its own, the model is what all of them together use, ``size/task_density`` the
    density of one of them, and the masks that tell them apart are weighed with it: a bit a task for each used weight.

    Where the stream shifts, ``size/memory_bytes`` is what the learner needs to go on from one experience to the next:
    the stored network (bitmask and values), the different images that it remembers, for training or validation, at a
    byte for each pixel and channel, and all other tensors, such as importances of weights, teachers, and logits. The
    optimiser's state is not counted.

    ``size/dense_*`` values are those of the freshly initialised, unpruned network stored the same way. The compressed
    form is weighed after the last megabatch alone, where the scenario says which that is: compressing a large network
    takes longer than testing it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._dense: dict[str, float] | None = None
        self._densities = 0.0

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Weigh the network once, before anything is pruned."""
        if self._dense is None:
            self._dense = storage_bytes(strategy.model) | compressed_bytes(strategy.model)

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """Weigh the model that was just tested."""
        networks, masks = network_per_task(strategy), b""
        with handed_over(strategy):
            sizes = storage_bytes(strategy.model)
            if last_megabatch(strategy) in (None, test.number):
                sizes |= compressed_bytes(strategy.model)
            values = density_values(strategy.model)
            if networks is not None and networks.masks:
                masks = packed_task_masks(networks, strategy.model)
                values["size/task_density"] = task_density(networks)
        added = {"bitmask": masks, "csr_int32": masks, "zlib1": zlib.compress(masks, ZLIB_LEVEL) if masks else b""}
        sizes = {form: size + len(added[form]) for form, size in sizes.items()}
        self._densities += values["size/density"]
        values["size/mean_density"] = self._densities / test.number
        values |= {f"size/bytes_{form}": size for form, size in sizes.items()}
        if shifting(strategy.current_eval_stream[0]) is not None:
            kept = remembered(strategy, not_of="benchmark")
            values["size/memory_bytes"] = sizes["bitmask"] + kept.bytes
            values["size/memory_images"] = float(kept.images)
        return values | {f"size/dense_bytes_{form}": size for form, size in (self._dense or {}).items()}


def last_megabatch(strategy: SupervisedTemplate) -> int | None:
    """Number of the stream's last megabatch, from 1; None if the stream does not say."""
    scenario = getattr(strategy.experience, "benchmark", None)
    last = scenario.train_stream[-1] if scenario is not None else None
    number = getattr(last, "last_megabatch", None)
    return None if number is None else int(number)
