"""Which settings are tried next: first points that fill the space evenly, then those that optuna proposes.

Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) samples where settings that did well are
dense. A proposal follows from the trials so far and their number alone, so a search that was killed goes on as it
would have.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgepress.run.search_space import Choice, Settings, Space, spread
from edgepress.run.trials import Trial

FIRST = 8
"""Trials at points that fill the space evenly: the estimator needs some to learn from."""


def propose(space: Space, tried: Sequence[Trial], seed: int) -> Settings:
    """The settings of the next trial.

    Args:
        tried: each is judged by its first, short training.
        seed: of the sampler, for the same trials the same.
    """
    if len(tried) < FIRST:
        return spread(space, len(tried) + 1)[-1]
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges: dict[str, BaseDistribution] = {
        one.name: CategoricalDistribution(one.values)
        if isinstance(one, Choice)
        else FloatDistribution(one.low, one.high, log=True)
        for one in space
    }
    sampler = optuna.samplers.TPESampler(seed=seed + len(tried), n_startup_trials=FIRST, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in tried:
        value = trial.trainings[0].val_mAP or 0.0
        study.add_trial(optuna.trial.create_trial(params=trial.settings, distributions=ranges, value=value))
    found = study.ask(ranges).params
    return {one.name: found[one.name] if isinstance(one, Choice) else one.rounded(found[one.name]) for one in space}
