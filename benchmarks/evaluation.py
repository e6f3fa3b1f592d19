"""Time the scores and spectra of a forecast, and compare with another version of the library.

python benchmarks/evaluation.py RUN [--older FOLDER] [--repeats 3]

RUN is a run folder with a forecast; its scores and spectra are written again. FOLDER is a checkout
of another version. Both score in turn, each in a process of its own; the processor seconds do not
contain the imports.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from seaice_lab.surrogate.evaluation import open_forecast

SCORE = """
import resource, sys, time
from seaice_lab.surrogate.evaluation import evaluate
start = time.process_time()
evaluate(sys.argv[1], show=False)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.process_time() - start, memory / 1e6)
"""


def main():
    """Print the cost of a frame in each version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--older", type=Path, help="checkout of another version")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    forecast = next(iter(open_forecast(options.run).data_vars.values()))
    ny, nx = forecast.shape[-2:]
    count = forecast.size // (ny * nx)
    folders = {"this version": Path(__file__).parents[1], "older version": options.older}
    folders = {name: folder for name, folder in folders.items() if folder}
    costs = {name: [] for name in folders}
    for _ in range(options.repeats):
        for name, folder in folders.items():
            costs[name].append(cost(options.run, folder))
    print(f"{options.run}: {count} frames of {ny} x {nx}")
    for name, values in costs.items():
        seconds, memory = min(values)
        print(f"{name}: {seconds:.1f} s of processor time, {1e3 * seconds / count:.1f} ms a frame, "
              f"at most {memory:.1f} GB")  # fmt: skip
    if options.older:
        new, old = (min(values)[0] for values in costs.values())
        print(f"this version takes {new / old:.2f} of the time of the older one")


def cost(run, folder):
    """Processor seconds and gigabytes of an evaluation by the library in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder.absolute())}
    # -P: the folder of the call, where relative stores are, is not searched for the library.
    command = [sys.executable, "-P", "-c", SCORE, str(run)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return tuple(map(float, done.stdout.split()[-2:]))


if __name__ == "__main__":
    main()
