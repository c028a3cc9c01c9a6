"""Distillation: the predictor of the last megabatch teaches the next one (Hinton et al. 2015)."""

from __future__ import annotations

import copy
from typing import Annotated

import torch
from annotated_types import Gt, Interval
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import avalanche_forward
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.nn import functional as F

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.execution import execution_of, in_float32
from strategies.registry import STRATEGIES


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T ** 2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch; logits (batch, classes).

    The factor T ** 2 keeps the size of the gradient about the same for every temperature.
    """
    log_q, log_p = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


class Distillation(SupervisedPlugin):
    """Mixes the loss with the divergence from what the previous predictor answers.

    Attributes:
        teacher: the predictor of the megabatch before, frozen; None in the first megabatch.
        forwarded_samples: samples that the teacher has answered for, over the whole run.
    """

    def __init__(self, alpha: float, temperature: float):
        super().__init__()
        self.alpha = alpha
        self.temperature = temperature
        self.teacher: nn.Module | None = None
        self.forwarded_samples = 0

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """From the second megabatch on: what was handed over last becomes the teacher."""
        if strategy.clock.train_exp_counter > 0:
            self.teacher = copy.deepcopy(strategy.model).eval().requires_grad_(False)

    def before_backward(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """(1 - alpha) * loss + alpha * distillation."""
        if self.teacher is None:
            return
        with torch.no_grad(), execution_of(strategy).autocast(strategy.device):
            answers = in_float32(avalanche_forward(self.teacher, strategy.mb_x, strategy.mb_task_id))
        self.forwarded_samples += len(answers)
        taught = distillation_loss(strategy.mb_output, answers, self.temperature)
        strategy.loss = (1 - self.alpha) * strategy.loss + self.alpha * taught


@STRATEGIES.register(
    "distillation",
    options=(),
    reference="Hinton et al. 2015, arXiv 1503.02531, section 2; Furlanello et al. 2018, arXiv 1805.04770",
)
def distillation(
    learner: Learner,
    pruning: Pruning,
    *,
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5,
    temperature: Annotated[float, Gt(0)] = 2.0,
) -> AnytimeStrategy:
    """Knowledge distillation: the predictor handed over last teaches the training on the next megabatch.

    1. In the first megabatch, train as the dense learner does.
    2. From the second on, freeze the best-validation model of t - 1 as the teacher and go on from its weights with
       the loss (1 - alpha) CE(student, label) + alpha T ** 2 KL(teacher || student), both softened by T.

    The teacher sees the same augmented images as the student and answers in eval mode. It costs one more forward pass
    for each training image, which is counted. Unlike Avalanche's LwF it distils on replayed data, too, the teacher is
    the predictor as it was tested, and the two parts of the loss add up to one. In the papers the student starts
    afresh; here it is the teacher's warm start.
    """
    return AnytimeStrategy(learner=learner, plugins=[Distillation(alpha, temperature)])
