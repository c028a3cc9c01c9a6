"""The fast path changes no bit: a plain PyTorch loop, image by image and layer by layer, ends with the same weights.

In fp32 on a CPU the arithmetic is the same, so the bits are: whole batches or single images, resident or mapped images,
a test set normalised once or every time, masks held by one operation or one by one, and all of Avalanche's machinery.
It is another arithmetic, and other bits, in bf16, with ``--compile`` (fused kernels), on a GPU (other kernels; a fused
optimiser), and with another number of threads (sums are split differently).
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from benchmark.config.profiles import resolve
from benchmark.models.build import model_factory
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.streams.build import build_stream
from benchmark.streams.loading import storage
from benchmark.streams.loading.images import Images, StreamData
from benchmark.streams.protocols.alma import split_megabatches
from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores.snip import snip
from strategies.seeds import numpy_generator, torch_generator

MEAN, STD = (0.5, 0.4, 0.6), (0.25, 0.3, 0.2)
SIDE, PADDING = 8, 1


@pytest.fixture(scope="module")
def data():
    """Images of three classes that a network can tell apart, if not easily."""

    def draw(size, seed):
        rng = np.random.default_rng(seed)
        targets = np.arange(size) % 3
        pixels = rng.integers(0, 200, (size, 3, SIDE, SIDE)) + 40 * np.eye(3, dtype=int)[targets][:, :, None, None]
        return Images(pixels.astype(np.uint8), targets.astype(np.int64))

    return StreamData("noise", draw(150, 0), draw(300, 1), ("a", "b", "c"), MEAN, STD)


def config_for(strategy):
    recipe = {
        "epochs": 3,
        "batch_size": 16,
        "lr": 0.05,
        "megabatches": 3,
        "val_fraction": 0.2,
        "model": "cnn",
        "seed": 5,
    }
    return resolve({"stream": "digits", "strategy": strategy, "resolution": SIDE, **recipe}, profile="demo")


def suite(config, data):
    """Errors on the test images after each megabatch, and the weights at the end."""
    stream = build_stream(config, data, "cpu")
    evaluator = make_evaluator(None)
    strategy = build_strategy(config, stream, "cpu", evaluator)
    for experience in stream.scenario.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(stream.scenario.test_stream)
    return evaluator.get_all_metrics()["test/errors"][1], strategy.model.state_dict()


def plain(config, data):
    """The same by hand, as a reader of the paper would write it."""
    model = model_factory("cnn", classes=3, channels=3, resolution=SIDE, seed=config.seed)(0)
    weights = prunable_weights(model)
    split = split_megabatches(data.train.targets, config.megabatches, config.val_fraction, config.seed)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    errors = []
    for t in range(config.megabatches):
        seen = np.concatenate([megabatch.train for megabatch in split[: t + 1]])
        held_out = np.concatenate([megabatch.valid for megabatch in split[: t + 1]])
        if config.strategy == "APP":
            size = round(config.score_fraction * len(split[t].train))
            sample = numpy_generator(config.seed, "scoring sample", t).choice(len(seen), size, replace=False)
            x, y = normalised(data.train.pixels[seen[sample]]), torch.from_numpy(data.train.targets[seen[sample]])
            density = 0.8 ** np.linspace(1, 4.5, config.megabatches)[t]
            masks = best(snip(model, [((x,), y)]), masks, density)
            hold(weights, masks)
        optimizer = SGD(
            model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=False
        )
        most, kept = -1, {}
        for epoch in range(config.epochs):
            model.train()
            generator = torch_generator(config.seed, "training batches", t, epoch)
            order = seen[torch.randperm(len(seen), generator=generator).numpy()]
            for start in range(0, len(order), config.batch_size):
                ids = order[start : start + config.batch_size]
                optimizer.zero_grad()
                x = normalised(augmented(data.train.pixels[ids], generator))
                F.cross_entropy(model(x), torch.from_numpy(data.train.targets[ids])).backward()
                optimizer.step()
                hold(weights, masks)
                hold({name: optimizer.state[weight]["momentum_buffer"] for name, weight in weights.items()}, masks)
            if epoch + 1 in [round(milestone * config.epochs) for milestone in config.milestones]:
                optimizer.param_groups[0]["lr"] *= config.lr_decay
            right = correct(model, data.train.pixels[held_out], data.train.targets[held_out])
            if right >= most:
                most, kept = right, copy.deepcopy(model.state_dict())
        model.load_state_dict(kept)
        errors.append(len(data.test) - correct(model, data.test.pixels, data.test.targets))
    return errors, model.state_dict()


def normalised(pixels):
    shift, scale = (torch.tensor(values).reshape(-1, 1, 1) * 255 for values in (MEAN, STD))
    x = (torch.from_numpy(pixels).float() - shift) * (1 / scale)
    return x.contiguous(memory_format=torch.channels_last)


def augmented(pixels, generator):
    offsets = torch.randint(2 * PADDING + 1, (2, len(pixels)), generator=generator).tolist()
    flips = (torch.rand(len(pixels), generator=generator) < 0.5).tolist()
    result = np.empty_like(pixels)
    for number, (image, down, right, flip) in enumerate(zip(pixels, *offsets, flips, strict=True)):
        padded = np.pad(image, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
        cut = padded[:, down : down + SIDE, right : right + SIDE]
        result[number] = cut[:, :, ::-1] if flip else cut
    return result


def best(scores, masks, density):
    """The highest scores of all layers together, among those not pruned yet; of equal ones the first."""
    flat = torch.cat([scores[name].masked_fill(~mask, -torch.inf).reshape(-1) for name, mask in masks.items()])
    order = np.argsort(-flat.numpy(), kind="stable")
    keep = np.zeros(len(flat), dtype=bool)
    keep[order[: round(density * len(flat))]] = True
    parts = torch.from_numpy(keep).split([mask.numel() for mask in masks.values()])
    return {name: part.reshape(mask.shape) for (name, mask), part in zip(masks.items(), parts, strict=True)}


@torch.no_grad()
def hold(tensors, masks):
    for name, tensor in tensors.items():
        tensor[~masks[name]] = 0


@torch.no_grad()
def correct(model, pixels, targets):
    model.eval()
    right = 0
    for start in range(0, len(pixels), 256):
        guesses = model(normalised(pixels[start : start + 256])).argmax(1)
        right += int((guesses == torch.from_numpy(targets[start : start + 256])).sum())
    return right


@pytest.mark.parametrize("images", ["resident", "mapped"])
@pytest.mark.parametrize("strategy", ["APP", "dense"])
def test_a_plain_loop_ends_with_the_same_bits(strategy, images, data, monkeypatch):
    if images == "mapped":
        monkeypatch.setattr(storage, "RESIDENT_BYTES", 0)
    config = config_for(strategy)
    errors, weights = suite(config, data)
    expected_errors, expected = plain(config, data)
    assert errors == expected_errors
    assert len(set(errors)) > 1
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name
