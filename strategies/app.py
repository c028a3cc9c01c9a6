"""APP: Anytime Progressive Pruning (Wadia et al. 2022, arXiv 2204.01640, algorithm 1)."""

from __future__ import annotations

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES


@STRATEGIES.register(
    "APP",
    options=(
        "score",
        "schedule",
        "density",
        "scope",
        "structure",
        "nested",
        "score_fraction",
        "control",
        "known_length",
    ),
    reference="Wadia et al. 2022, arXiv 2204.01640, algorithm 1",
)
def app(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Anytime Progressive Pruning: prune a little more at the start of every megabatch.

    At the start of megabatch t of B:

    1. take the best-validation model of megabatch t - 1 (at t = 1 a random initialisation);
    2. score its weights with SNIP on a sample of the data available at t, as large as 20 % of one megabatch;
    3. keep the best d_t = 0.8 ** s_t of them, s = linspace(1, tau, B), 0.8 ** tau the final density;
    4. train on the replayed data M_1..M_t and keep the best-validation weights.

    Steps 1 and 4 are the ALMA learner's, 2 and 3 the plugin's: ``pruning`` holds the paper's score, schedule and
    scope unless other ones were asked for. The density applied to the trained weights is d_t exactly;
    ``APP-reference`` is what the authors' public code does instead.
    """
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(pruning.parts(learner))])
