"""Size: applied density, nonzeros, and the bytes that three ways of storing the network take."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from benchmark.metrics.series import SeriesMetric, on_test_stream
from strategies.pruning.masks import Masks, prunable_weights

CSR_INDEX_BYTES = 4
"""Column indices and row pointers of the CSR estimate are 32-bit integers."""

ZLIB_LEVEL = 1
"""Of the compressed form: zlib at this level over all tensors, raw little-endian values one after the other."""


def density_values(model: nn.Module) -> dict[str, float]:
    """What is applied to the weights now, whatever was asked for: zeros are counted, not masks.

    ``size/density`` is the kept fraction of the prunable weights, ``size/density_all`` that of all parameters,
    ``size/nonzeros`` the number of nonzero prunable weights.
    """
    kept = Masks.of(prunable_weights(model))
    everything = sum(p.numel() for p in model.parameters())
    return {
        "size/density": kept.density,
        "size/density_all": (everything - (kept.size - kept.nonzeros)) / everything,
        "size/nonzeros": float(kept.nonzeros),
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


class ModelSize(SeriesMetric):
    """Density, nonzeros and bytes of the model handed over, beside the same network before any pruning.

    ``size/dense_*`` values are those of the freshly initialised, unpruned network stored the same way. With the number
    of ``megabatches`` the compressed form is weighed after the last of them alone: compressing a large network takes
    longer than testing it.
    """

    def __init__(self, megabatches: int | None = None) -> None:
        super().__init__()
        self.megabatches = megabatches
        self._dense: dict[str, float] | None = None
        self._tests = 0

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Weigh the network once, before anything is pruned."""
        if self._dense is None:
            self._dense = storage_bytes(strategy.model) | compressed_bytes(strategy.model)

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Weigh the model that was just tested."""
        if not on_test_stream(strategy):
            return None
        self._tests += 1
        sizes = storage_bytes(strategy.model)
        if self.megabatches in (None, self._tests):
            sizes |= compressed_bytes(strategy.model)
        values = density_values(strategy.model)
        values |= {f"size/bytes_{form}": size for form, size in sizes.items()}
        values |= {f"size/dense_bytes_{form}": size for form, size in (self._dense or {}).items()}
        return self.emit(values, step=self._tests)
