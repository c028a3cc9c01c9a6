from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from benchmark.metrics.size import ModelSize, compressed_bytes, density_values, storage_bytes
from strategies.pruning.masks import prunable_weights


@pytest.fixture
def sparse_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 1), nn.Flatten(), nn.Linear(5, 2))
    with torch.no_grad():
        for weight in prunable_weights(net).values():
            weight[torch.rand_like(weight) < 0.7] = 0
    return net


def test_density_counts_zeros(sparse_net):
    weights = torch.cat([w.flatten() for w in prunable_weights(sparse_net).values()])
    everything = sum(p.numel() for p in sparse_net.parameters())
    values = density_values(sparse_net)
    assert values["size/nonzeros"] == int((weights != 0).sum())
    assert values["size/density"] == pytest.approx(float((weights != 0).float().mean()))
    assert values["size/density_all"] == pytest.approx(1 - int((weights == 0).sum()) / everything)


def test_layers_without_any_weight_are_counted(sparse_net):
    assert density_values(sparse_net)["size/empty_layers"] == 0
    with torch.no_grad():
        sparse_net[2].weight.zero_()
    assert density_values(sparse_net)["size/empty_layers"] == 1


def test_csr_bytes_are_those_of_scipy(sparse_net):
    expected = 0
    for name, tensor in sparse_net.state_dict().items():
        if name in prunable_weights(sparse_net):
            matrix = scipy.sparse.csr_matrix(tensor.flatten(1).numpy())
            expected += (
                matrix.data.nbytes + matrix.indices.astype(np.int32).nbytes + matrix.indptr.astype(np.int32).nbytes
            )
        else:
            expected += tensor.numpy().nbytes
    assert storage_bytes(sparse_net)["csr_int32"] == expected


def test_bitmask_bytes_are_those_of_packed_bits_and_values(sparse_net):
    stored = io.BytesIO()
    for name, tensor in sparse_net.state_dict().items():
        values = tensor.numpy()
        if name in prunable_weights(sparse_net):
            stored.write(np.packbits(values.ravel() != 0).tobytes())
            values = values[values != 0]
        stored.write(values.tobytes())
    assert storage_bytes(sparse_net)["bitmask"] == stored.tell()


def test_compressed_bytes_are_those_of_zlib(sparse_net):
    raw = b"".join(tensor.numpy().tobytes() for tensor in sparse_net.state_dict().values())
    packed = compressed_bytes(sparse_net)["zlib1"]
    assert packed == pytest.approx(len(zlib.compress(raw, 1)), rel=0.02)
    assert packed < 0.75 * len(zlib.compress(np.random.default_rng(0).bytes(len(raw)), 1))


def test_dense_reference_is_taken_before_any_pruning(trained):
    last = trained(ModelSize()).evaluator.get_last_metrics()
    assert last["size/density"] == pytest.approx(0.8**4.5, abs=1 / 352)
    assert last["size/bytes_csr_int32"] < last["size/dense_bytes_csr_int32"]
    assert last["size/bytes_bitmask"] < last["size/dense_bytes_bitmask"]


def test_compressed_bytes_are_weighed_at_the_last_megabatch_or_at_each(trained, scenario):
    def weighed():
        series = trained(ModelSize()).evaluator.get_all_metrics()
        assert series["size/bytes_bitmask"][0] == [1, 2, 3, 4]
        return series["size/bytes_zlib1"][0]

    assert weighed() == [4]
    for stream in scenario.streams.values():
        for experience in stream:
            experience.benchmark = None
    assert weighed() == [1, 2, 3, 4], "where nothing says which is the last"


def test_mean_density_is_that_of_the_megabatches_so_far(trained):
    series = trained(ModelSize()).evaluator.get_all_metrics()
    densities = series["size/density"][1]
    assert series["size/mean_density"][1] == pytest.approx([np.mean(densities[: t + 1]) for t in range(4)])
    assert densities[0] > densities[-1]
