"""Compare the presets of a training: the samples that each needs for the same validation loss.

python benchmarks/presets.py STORE RUNS [--seeds 3] [--epochs N]

For each seed, RUNS receives a run with the published settings and one with the fast settings, of
the same network and loss. A run that is there already is not trained again. --epochs limits both,
to try the script. A pair takes hours on a CPU with the bundled sample, a few minutes on a GPU.
"""

import argparse
from pathlib import Path

import pandas as pd

from seaice_lab.surrogate.samples import Samples
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.train import train


def losses(config, folder):
    """Validation losses of a training and the number of samples of each epoch.

    Parameters
    ----------
    config : TrainConfig
    folder : Path
        Run folder; it is trained if it does not exist or is not finished.

    Returns
    -------
    pandas.Series
        Validation loss after the number of samples that is its index.
    """
    train(config, folder)
    history = pd.read_csv(folder / "history.csv")
    batches = len(Samples(config.store, window_of(config), "train")) // config.fit.batch_size
    samples = history.epoch * batches * config.fit.batch_size
    return pd.Series(history.validation_loss.values, index=samples)


def main():
    """Train, and print one line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="prepared store")
    parser.add_argument("runs", type=Path, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    limit = {"epochs": options.epochs} if options.epochs else {}
    print(f"{'':4s} {'published':>20s} {'fast':>20s} {'fast reaches published':>24s}")
    losses_and_samples = f" {'loss':>8s} {'samples':>11s}"
    print(f"{'seed':4s}{2 * losses_and_samples} {'samples':>12s} {'share':>11s}")
    for seed in range(options.seeds):
        best, results = {}, {}
        for preset in ("published", "fast"):
            fit = {"seed": seed, **limit}
            config = TrainConfig(store=options.store, width=options.width, preset=preset, fit=fit)
            results[preset] = losses(config, options.runs / f"{preset}_{seed}")
            best[preset] = results[preset].min(), results[preset].idxmin()
        loss, samples = best["published"]
        reached = results["fast"].index[results["fast"] <= loss]
        line = "".join(f" {loss:8.4f} {samples:11d}" for loss, samples in best.values())
        share = f" {reached[0]:12d} {reached[0] / samples:11.3f}" if len(reached) else " never"
        print(f"{seed:4d}{line}{share}", flush=True)


if __name__ == "__main__":
    main()
