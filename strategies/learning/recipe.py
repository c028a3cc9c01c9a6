"""The words of a recipe: choices of protocols and variants, known without importing torch."""

from __future__ import annotations

from typing import Literal

Ties = Literal["first", "last", "loss"]
"""Which of equally good epochs is handed over: the first, the last, or the one with the lowest validation loss."""

Optimiser = Literal["sgd", "adamw"]
"""SGD with momentum, or AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

LearningRateSchedule = Literal["multistep", "cosine", "constant"]
"""How the rate falls within a megabatch: by a factor at milestones, along a cosine to zero, or not at all."""

Control = Literal["none", "shuffle", "reinitialise", "invert"]
"""What a pruner is checked against: its masks shuffled within each layer, its weights drawn anew after pruning, or its
scores inverted so that the worst weights stay (Frankle et al. 2021, arXiv 2009.08576)."""
