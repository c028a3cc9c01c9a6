"""What is held at zero is exactly zero, whatever became of it, and everything else keeps its bits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies.pruning.upkeep import HeldAsTheyAre, HeldAtZero

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

STRANGE = [math.nan, -math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-40, -1e-40, 3.4e38, -1.0, 1.0]


def bits(tensor):
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def strange(shape, dtype, seed):
    """Entries of every odd kind."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.tensor(STRANGE, dtype=torch.float64).to(dtype)
    return kinds[torch.randint(len(kinds), shape, generator=generator)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(0, 1000))
def test_held_entries_are_zero_and_the_others_keep_their_bits(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3, 3, 3), (5, 7), (1,), (6,)]
    tensors = [strange(shape, dtype, seed + number) for number, shape in enumerate(shapes)]
    zero = [torch.rand(shape, generator=generator) < 0.6 for shape in shapes]
    before = [tensor.clone() for tensor in tensors]
    HeldAtZero(zip(tensors, zero, strict=True))()
    for tensor, was, where in zip(tensors, before, zero, strict=True):
        assert torch.equal(bits(tensor), bits(was.masked_fill(where, 0)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(0, 1000))
def test_held_entries_keep_the_bits_that_they_had_and_the_others_those_that_they_got(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3, 3, 3), (5, 7), (6,)]
    tensors = [strange(shape, dtype, seed + number) for number, shape in enumerate(shapes)]
    held = [torch.rand(shape, generator=generator) < 0.6 for shape in shapes]
    before = [tensor.clone() for tensor in tensors]
    hold = HeldAsTheyAre(zip(tensors, held, strict=True))
    for moved in range(2):
        after = [strange(shape, dtype, seed + 10 + moved + number) for number, shape in enumerate(shapes)]
        for tensor, got in zip(tensors, after, strict=True):
            tensor.copy_(got)
        hold()
        for tensor, was, got, where in zip(tensors, before, after, held, strict=True):
            assert torch.equal(bits(tensor), torch.where(where, bits(was), bits(got)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_formats_of_tensor_and_mask_may_differ(layout):
    zero = torch.rand(4, 3, 5, 5) < 0.5
    tensor = torch.randn(4, 3, 5, 5).to(memory_format=layout)
    other = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    expected = [tensor.masked_fill(zero, 0), other.masked_fill(zero, 0)]
    HeldAtZero([(tensor, zero), (other, zero)])()
    assert torch.equal(tensor, expected[0])
    assert torch.equal(other, expected[1])


def test_it_goes_on_holding_the_same_memory():
    weight = torch.nn.Parameter(torch.ones(8))
    zero = torch.arange(8) < 3
    hold = HeldAtZero([(weight, zero)])
    for _ in range(3):
        with torch.no_grad():
            weight += 1
        hold()
        assert torch.equal(weight == 0, zero)
    weight.sum().backward()
    assert torch.equal(weight.grad, torch.ones(8))


def test_nothing_to_hold_is_no_error():
    HeldAtZero([])()
