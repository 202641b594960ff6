"""How often the interval of a drop in mAP holds the true drop, over simulated engines whose true drop is known.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/coverage.py > benchmarks/records/coverage-cpu.jsonl

An engine is its reference with noise on every score, more on some engines than on others. The population is a finite
list of pictures, so its drop is exact; a test set is drawn from it with replacement. Prints a JSON object a setting:

percentile    share of engines whose true drop lies in the interval that `verify` uses
below         share whose true drop lies under the upper end, which is what a pass rests on (nominal 97.5 %)
basic, bca    the same share for two other bootstrap intervals of the same resamples
                  (Efron and Tibshirani 1993, chapters 13 and 14)
bias          mean of (drop on the test set - true drop), in points
width         mean width of the percentile interval, in points
"""

from __future__ import annotations

import argparse
import json
from statistics import NormalDist

import numpy as np

from edgepress.multilabel.confidence import Scored, drop_interval, resample_counts, resampled_mean_average_precision
from edgepress.multilabel.metrics import mean_average_precision

NORMAL = NormalDist()


def main() -> None:
    """Simulate every setting and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=int, default=200, help="engines a setting")
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--population", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    settings = [  # pictures, share of positives, noise (1 is the spread of a score within a label)
        (200, 0.13, 0.3),
        (200, 0.03, 0.3),
        *((pictures, 0.13, 0.3) for pictures in (100, 500, 1000)),
        *((200, 0.13, noise) for noise in (0.03, 1.0)),
    ]
    for pictures, share, noise in settings:
        print(json.dumps({**vars(options), **_measure(pictures, share, noise, options)}), flush=True)


def simulate(pictures: int, share: float, noise: float, labels: int, population: int, seed: int):
    """One engine: its test set as the reference and it score it, and the true drop in points."""
    rng = np.random.default_rng([seed, pictures])
    targets = (rng.random((population, labels)) < share * rng.uniform(0.5, 1.5, labels)).astype(np.uint8)
    reference = targets * rng.uniform(0.8, 2.5, labels) + rng.normal(size=targets.shape)
    engine = reference + noise * rng.uniform(0.3, 1.7) * rng.normal(size=targets.shape)
    truth = 100 * (mean_average_precision(targets, reference) - mean_average_precision(targets, engine))
    rows = rng.integers(0, population, pictures)
    ignore = np.zeros((pictures, labels), bool)
    before, after = (Scored(targets[rows], scores[rows], ignore) for scores in (reference, engine))
    return before, after, truth


def _measure(pictures: int, share: float, noise: float, options: argparse.Namespace) -> dict[str, float]:
    held: dict[str, list[bool]] = {"percentile": [], "basic": [], "bca": [], "below": []}
    errors, widths, truths = [], [], []
    for number in range(options.engines):
        before, after, truth = simulate(pictures, share, noise, options.labels, options.population, number)
        drop, (low, high), basic, bca = _intervals(before, after, options.resamples)
        if number == 0:
            used = drop_interval(before, after, resamples=options.resamples)
            assert np.allclose((low, high), used, atol=1e-9), "not what verify uses"
        for name, (least, most) in (("percentile", (low, high)), ("basic", basic), ("bca", bca)):
            held[name].append(least <= truth <= most)
        held["below"].append(truth <= high)
        errors.append(drop - truth)
        widths.append(high - low)
        truths.append(truth)
    return {
        "pictures": pictures,
        "positive_share": share,
        "noise": noise,
        **{name: float(np.mean(values)) for name, values in held.items()},
        "true_drop": round(float(np.mean(truths)), 3),
        "bias": round(float(np.mean(errors)), 3),
        "width": round(float(np.mean(widths)), 3),
    }


def _intervals(before: Scored, after: Scored, resamples: int):
    """The drop, and its percentile, basic and BCa intervals, from the resamples that `drop_interval` draws."""
    pictures = len(before.targets)

    def drops(counts: np.ndarray) -> np.ndarray:
        first, second = (resampled_mean_average_precision(*one, counts) for one in (before, after))
        return 100 * (first - second)

    drawn = drops(resample_counts(pictures, resamples))
    drop = float(drops(np.ones((pictures, 1), np.int16))[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    without = drops(1 - np.eye(pictures, dtype=np.int16))
    pull = without.mean() - without
    skew = float((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))
    shift = NORMAL.inv_cdf(min(max(float((drawn < drop).mean()), 1 / resamples), 1 - 1 / resamples))
    ends = [shift + NORMAL.inv_cdf(share) for share in (0.025, 0.975)]
    bca = np.quantile(drawn, [NORMAL.cdf(shift + end / (1 - skew * end)) for end in ends])
    return drop, (low, high), (2 * drop - high, 2 * drop - low), (bca[0], bca[1])


if __name__ == "__main__":
    main()
