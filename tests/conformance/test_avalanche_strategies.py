"""Avalanche's own strategy tests as the judge of integration."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import random
import unittest
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.benchmarks import CLScenario
from avalanche.training.templates import BaseTemplate, SupervisedMetaLearningTemplate, SupervisedTemplate
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch.utils.data import TensorDataset

from benchmark.streams.alma import alma_scenario
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import kept_count, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores import snip

FRONT = os.environ.get("FRONT") == "1"
MODES=os.environ.get("MODES","base,stream,plugin").split(",")

def avalanche_module(name):
    where = importlib.metadata.distribution("avalanche-lib").locate_file("tests")
    import tests
    print(tests)
    if str(where) not in list(tests.__path__):
        tests.__path__ = [str(where), *tests.__path__]
    return importlib.import_module(name)

S = avalanche_module("tests.training.test_strategies")
ALL = {f"{c.__name__}.{m}": (c, m) for c in (S.BaseStrategyTest, S.StrategyTest) for m in unittest.defaultTestLoader.getTestCaseNames(c)}


@pytest.fixture(autouse=True)
def env(monkeypatch):
    monkeypatch.setenv("FAST_TEST", "True")
    monkeypatch.setenv("USE_GPU", "False")
    def refuse(url, *a, **k):
        raise ConnectionRefusedError(url)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    random.seed(0); np.random.seed(0); torch.manual_seed(0)


def alma(use_task_labels=False, shuffle=True, n_samples_per_class=100, n_classes=10, n_features=6, seed=None,
         train_transform=None, eval_transform=None):
    x, y = make_classification(n_samples=n_classes*n_samples_per_class, n_classes=n_classes, n_features=n_features, n_informative=6, n_redundant=0, random_state=seed)
    x = torch.from_numpy(x).float(); y=torch.from_numpy(y).long()
    trx, tex, tr_y, te_y = train_test_split(x, y, train_size=.6, stratify=y, random_state=seed)
    return alma_scenario(TensorDataset(trx, tr_y), TensorDataset(tex, te_y), tr_y, te_y, megabatches=5, seed=seed or 0, train_transform=train_transform, eval_transform=eval_transform)

LOG = []
def insert(monkeypatch):
    o_init, o_train = BaseTemplate.__init__, BaseTemplate.train
    made = []
    def init(self, **kw):
        o_init(self, **kw)
        if isinstance(self, (SupervisedTemplate, SupervisedMetaLearningTemplate)):
            p = PruningPlugin(score=snip, distribution=global_ranking, schedule=Progressive(4.5, 5), sample_fraction=.2)
            if FRONT: self.plugins.insert(0, p)
            else: self.plugins.append(p)
            self._ours = p
            made.append(self)
    def train(self, *a, **k):
        r = o_train(self, *a, **k)
        p = getattr(self, "_ours", None)
        if p:
            w = prunable_weights(self.model)
            assert p.masks is not None and p.scored_samples > 0
            d = p.schedule(self.clock.train_exp_counter - 1)
            assert p.masks.keys() == w.keys()
            print("DENS", p.masks, d, p.masks.nonzeros - kept_count(d, p.masks.size))
            bad = sum(int((w[n][~m] != 0).sum()) for n, m in p.masks.items())
            assert p.masks.nonzeros == kept_count(d, p.masks.size), (p.masks.nonzeros, d)
            assert bad == 0, f"{bad} pruned weights nonzero"
        return r
    monkeypatch.setattr(BaseTemplate, "__init__", init)
    monkeypatch.setattr(BaseTemplate, "train", train)
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
def test_it(name, mode, monkeypatch):
    if "stream" in mode:
        monkeypatch.setattr(S, "get_fast_benchmark", alma)
    if "plugin" in mode:
        insert(monkeypatch)
    c, m = ALL[name]
    c(m).debug()
