"""The training loop beside a bare one, one in the manner of the paper's authors, and Avalanche's Naive."""

from __future__ import annotations

import contextlib
import io

import pytest
import torch
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.supervised import Naive
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.config.profiles import resolve
from benchmark.registry import MODELS
from benchmark.running.bf16 import has_bf16_instructions
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.prepare import prepare
from benchmark.running.progress import RunProgress
from benchmark.streams.build import build_stream
from strategies.pruning.masks import prunable_weights
from strategies.pruning.plugin import SCORING_BATCH, PruningPlugin
from strategies.pruning.scores.snip import snip

pytestmark = pytest.mark.speed

RECIPE = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4}

SHOTS = {"resnet20s": 60, "resnet18": 24}
"""Images of each of 14 classes: an epoch has 11 or 5 batches of 64, the last of them smaller."""


class Loop:
    """Our learner in its second megabatch, pruned, with metrics and progress, epoch by epoch; and what it trains on."""

    def __init__(self, cache, device, precision="fp32", compiled=False, **options):
        options = {
            "strategy": "APP",
            "batch_size": 64,
            "megabatches": 2,
            "epochs": 1,
            "precision": precision,
            **options,
        }
        config = resolve({**options, "compile": compiled, "device": device}, profile="demo")
        prepared = prepare(config, data_root="data", cache=cache)
        stream = build_stream(config, prepared.data, device)
        self.config, self.data, self.scenario, self.loader = config, stream.data, stream.scenario, stream.loader
        self.strategy = build_strategy(config, stream, device, make_evaluator(None), [RunProgress(config)])
        first, second = stream.scenario.train_stream
        with contextlib.redirect_stderr(io.StringIO()):
            self.strategy.train(first, eval_streams=[])
        # What Avalanche's train() does before its first epoch, so that epochs can be run one by one.
        self.strategy.is_training = True
        self.strategy.experience = second
        self.strategy.model.train()
        self.strategy._before_training_exp()
        self.steps = len(self.strategy.dataloader)

    def __call__(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.strategy._before_training_epoch()
            self.strategy.training_epoch()

    def new_model(self):
        """The same network, dense, with an initialisation of its own, in the default memory format."""
        _, channels, side, _ = self.data.train.shape
        return MODELS.load(self.config.model).target(len(self.data.classes), channels, side).to(self.config.device)

    def plugin(self, kind):
        return next(plugin for plugin in self.strategy.plugins if isinstance(plugin, kind))


class Resident:
    """Augmented batches of resident images, written apart from those of the suite: windows of padded images."""

    def __init__(self, loop, device):
        ids = torch.tensor(list(loop.strategy.adapted_dataset.sample_id))
        self.pixels = torch.from_numpy(loop.data.train.read(ids.numpy())).to(device)
        self.targets = torch.from_numpy(loop.data.train.targets[ids.numpy()]).to(device)
        self.size = loop.strategy.train_mb_size
        self.flip = loop.data.flip
        shift, scale = (torch.tensor(values).reshape(-1, 1, 1) * 255 for values in (loop.data.mean, loop.data.std))
        self.shift, self.scale = shift.to(device), (1 / scale).to(device)

    def __iter__(self):
        device, side = self.pixels.device, self.pixels.shape[-1]
        padding = side // 8
        for ids in torch.randperm(len(self.targets), device=device).split(self.size):
            down, right = torch.randint(2 * padding + 1, (2, len(ids)), device=device)
            padded = F.pad(self.pixels[ids], [padding] * 4)
            windows = padded.unfold(2, side, 1).unfold(3, side, 1)
            images = windows[torch.arange(len(ids), device=device), :, down, right]
            if self.flip:
                mirrored = torch.rand(len(ids), 1, 1, 1, device=device) < 0.5
                images = torch.where(mirrored, images.flip(3), images)
            x = (images.float() - self.shift) * self.scale
            yield x.contiguous(memory_format=torch.channels_last), self.targets[ids]


def bare(loop, device, precision="fp32"):
    """A tuned PyTorch loop: the same model, precision and memory format, resident batches, a fused optimiser."""
    model = loop.new_model().to(memory_format=torch.channels_last)
    optimizer = SGD(model.parameters(), **RECIPE, fused=True)
    batches = Resident(loop, device)

    def epoch():
        for x, y in batches:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                output = model(x)
            F.cross_entropy(output.float(), y).backward()
            optimizer.step()

    return epoch


class Files(Dataset):
    """Images as a folder of files gives them: one by one, as PIL images, transformed in Python."""

    def __init__(self, images, ids, transform):
        self.pixels = [Image.fromarray(image.transpose(1, 2, 0)) for image in images.read(ids)]
        self.targets, self.transform = images.targets[ids], transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.transform(self.pixels[index]), int(self.targets[index])


def authors_manner(loop, device):
    """fp32, NCHW, PIL transforms in two workers, masks by torch.nn.utils.prune, the loss read after every step."""
    strategy, data = loop.strategy, loop.data
    model = loop.new_model()
    masks = loop.plugin(PruningPlugin).masks
    for name in prunable_weights(model):
        prune.custom_from_mask(model.get_submodule(name.removesuffix(".weight")), "weight", masks[name])
    side = data.train.shape[-1]
    steps = [transforms.RandomCrop(side, padding=side // 8), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(data.mean, data.std)])
    ids = torch.tensor(list(strategy.adapted_dataset.sample_id)).numpy()
    files = Files(data.train, ids, transform)
    batches = DataLoader(files, strategy.train_mb_size, shuffle=True, num_workers=2, pin_memory=device == "cuda")
    optimizer = SGD(model.parameters(), **RECIPE)

    def epoch():
        losses = []
        for x, y in batches:
            x, y = x.to(device), y.to(device)
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((loss.item(), (output.argmax(1) == y).float().mean().item()))

    return epoch


def naive(loop, device):
    """Avalanche's Naive as it comes: its data loader, its metrics and its log, on the same stream.

    The loader calls the stream's transforms, which Avalanche's own strategies have here, too, image by image.
    """
    model = loop.new_model()
    optimizer = SGD(model.parameters(), **RECIPE)
    with contextlib.redirect_stdout(io.StringIO()):
        strategy = Naive(
            model=model,
            optimizer=optimizer,
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=loop.strategy.train_mb_size,
            device=device,
            evaluator=default_evaluator(),
        )
    strategy.is_training = True
    strategy.experience = loop.strategy.experience
    strategy.model.train()
    strategy._before_training_exp()
    strategy.adapted_dataset = loop.strategy.adapted_dataset
    strategy.make_train_dataloader()

    def epoch():
        with contextlib.redirect_stdout(io.StringIO()):
            strategy._before_training_epoch()
            strategy.training_epoch()

    return epoch


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["resnet20s", "resnet18"])
def test_epochs(model, precision, device, tmp_path_factory, in_turns, ratio, report):
    if precision == "bf16" and device == "cpu" and has_bf16_instructions() is False:
        pytest.skip("this processor has no bf16 instructions")
    cache = tmp_path_factory.getbasetemp() / "images"
    loop = Loop(cache, device, precision, stream="synthetic", model=model, shots=SHOTS[model])
    loops = {
        "ours": loop,
        "bare": bare(loop, device, precision),
        "authors": authors_manner(loop, device),
        "naive": naive(loop, device),
    }
    seconds = in_turns(loops, rounds=5)
    what, gpu = f"{model}, {precision}", device == "cuda"
    report(
        f"{what}: our epoch / bare loop",
        ratio(seconds["ours"], seconds["bare"]),
        f"<= {1.1 if gpu else 1.05}",
        device=device,
    )
    for name, title in (("authors", "in the authors' manner (fp32)"), ("naive", "Avalanche's Naive (fp32)")):
        reached = ratio(seconds[name], seconds["bare"])
        target = 5.0 if gpu else round(0.95 * reached, 3)
        value = ratio(seconds[name], seconds["ours"])
        report(f"{what}: {title} / ours", value, f">= {target}", device=device, note=f"bare loop: {reached:.2f}")


def test_epochs_of_a_small_network(device, tmp_path_factory, in_turns, ratio, report):
    cache = tmp_path_factory.getbasetemp() / "images"
    loop = Loop(cache, device, stream="digits", model="cnn")
    seconds = in_turns({"ours": loop, "bare": bare(loop, device)}, rounds=15)
    value = ratio(seconds["ours"], seconds["bare"])
    report(
        "cnn, 15k weights, 8 px, fp32: our epoch / bare loop",
        value,
        f"<= {1.1 if device == 'cuda' else 1.3}",
        device=device,
    )


@pytest.mark.parametrize("model", ["resnet20s", "resnet18"])
def test_mask_upkeep(model, device, tmp_path_factory, in_turns, ratio, report):
    loop = Loop(tmp_path_factory.getbasetemp() / "images", device, stream="synthetic", model=model, shots=SHOTS[model])
    pruning = loop.plugin(PruningPlugin)

    def upkeep():
        for _ in range(loop.steps):
            pruning.after_update(loop.strategy)

    seconds = in_turns({"epoch": loop, "upkeep": upkeep}, rounds=5)
    value = 100 * ratio(seconds["upkeep"], seconds["epoch"])
    report(f"{model}, fp32: mask upkeep, share of a step", value, "<= 2", device=device, unit=" %")


@pytest.mark.parametrize("model", ["resnet20s", "resnet18"])
def test_scoring(model, device, tmp_path_factory, in_turns, ratio, report):
    loop = Loop(tmp_path_factory.getbasetemp() / "images", device, stream="synthetic", model=model, shots=SHOTS[model])
    network = loop.strategy.model
    data = loop.strategy.adapted_dataset
    batches = [((x,), y) for x, y, _ in loop.loader.eval_batches(data, SCORING_BATCH)]

    def forward_backward():
        network.train()
        for (x,), y in batches:
            F.cross_entropy(network(x), y).backward()
        network.zero_grad()

    contenders = {"score": lambda: snip(network, batches), "forward and backward": forward_backward}
    seconds = in_turns(contenders, rounds=7)
    value = ratio(seconds["score"], seconds["forward and backward"])
    note = f"{len(data)} images"
    report(
        f"{model}: SNIP scoring / forward and backward",
        value,
        f"<= {1.2 if device == 'cuda' else 1.1}",
        device=device,
        note=note,
    )


@pytest.mark.parametrize("model", ["resnet20s", "resnet18"])
def test_compiled(model, device, tmp_path_factory, in_turns, ratio, report):
    cache = tmp_path_factory.getbasetemp() / "images"
    options = {"stream": "synthetic", "model": model, "shots": SHOTS[model]}
    loops = {name: Loop(cache, device, compiled=name == "compiled", **options) for name in ("compiled", "plain")}
    seconds = in_turns(loops, rounds=5)
    # Something was compiled, or the ratio would be met by doing nothing.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    value = ratio(seconds["compiled"], seconds["plain"])
    report(f"{model}, fp32: epoch with --compile / without", value, "<= 1.05", device=device)
