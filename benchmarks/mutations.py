"""The campaign of mutations: what is changed, what is right, and how an end is judged.

Each mutation says what is right: EQUAL if nothing that matters changed (the result of the
unmutated input is right, and so is a refusal of damage), SHOWN if the result must show what the
files hold now, REFUSED if only a refusal is right. Each runs in a process that is forked from one
in which everything is imported, so that it costs a second and can neither hang nor crash the
others.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import mutated_inputs
import mutated_runs
import mutated_settings
import numpy as np
from mutated_inputs import EQUAL, REFUSED, SHOWN
from processes import start, tail, wait

from seaice_lab import cli

SECONDS = 1800  # after which a mutation hangs; long, since other work may share the machine
REMEDIES = ("; ", "expected", "should be", "use ", "choose ", "restore ")


def run_cli(*words):
    """Run a command of the command line; exits if it ends with an error."""
    sys.argv = ["seaice-lab", *words]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def of_inputs(rng, reference):
    """A preparation from mutated inputs."""
    mutate = pick_in_turn(mutated_inputs.MUTATIONS, rng)
    before = mutated_inputs.raw()
    sys.argv = ["seaice-lab", *mutated_inputs.COMMAND]
    name, truth = mutate(rng)
    tell(mutate, "prepare", name, truth)
    words = sys.argv[1:]
    run_cli(*words)
    fields, after = mutated_inputs.read_store(), mutated_inputs.raw()
    if truth == SHOWN and not same(before, after):
        return mutated_inputs.shows(fields, after)
    return truth != REFUSED and same(fields, load(reference, "inputs"))


def of_runs(rng, reference):
    """A job that reads a mutated store or run."""
    mutate, commands = pick_in_turn(mutated_runs.MUTATIONS, rng)
    command = mutated_inputs.pick(rng, *commands)
    name, truth = mutate(rng, command)
    tell(mutate, command, name, truth)
    run_cli(*mutated_runs.COMMANDS[command])
    return truth == EQUAL and same(mutated_runs.read_result(command), load(reference, command))


def of_settings(rng, _reference):
    """Settings of any job, mutated in their form or made wrong."""
    mutate = pick_in_turn(mutated_settings.SETTINGS, rng)
    arguments, name, truth, values = mutate(rng)
    tell(mutate, arguments, name, truth)
    result = mutated_settings.read_settings(*arguments)
    return truth == EQUAL and same(result, mutated_settings.expected_settings(arguments[0], values))


def of_notebooks(rng, _reference):
    """Parameters of the notebooks, mutated in their form or made wrong."""
    mutate = pick_in_turn(mutated_settings.NOTEBOOKS, rng)
    arguments, name, truth, values = mutate(rng)
    tell(mutate, arguments, name, truth)
    result = mutated_settings.read_notebooks(*arguments)
    return truth == EQUAL and same(result, mutated_settings.expected_notebooks(values))


# Of ten mutations, so many are of each kind.
KINDS = (of_inputs, of_runs, of_inputs, of_runs, of_settings, of_inputs, of_runs, of_notebooks,
         of_settings, of_runs)  # fmt: skip


def pick_in_turn(choices, rng):
    """One of some choices at random."""
    return choices[rng.integers(len(choices))]


def tell(mutate, what, name, truth):
    """Keep what was mutated, for the judge."""
    names = [name] if isinstance(name, str) else list(name)
    what = what if isinstance(what, str) else json.dumps(what, default=str)
    Path("case.json").write_text(json.dumps([mutate.__name__, what, names, truth]))


def load(reference, name):
    """Arrays of the unmutated result."""
    with np.load(reference / f"{name}.npz") as arrays:
        return dict(arrays)


def same(values, expected):
    """Whether two sets of arrays are equal but for the rounding of single precision."""
    return values.keys() == expected.keys() and all(
        values[name].shape == array.shape
        and (
            np.allclose(values[name], array, rtol=1e-5, atol=1e-4, equal_nan=True)
            if array.dtype.kind == "f"
            else np.array_equal(values[name], array)
        )
        for name, array in expected.items()
    )


def try_mutation(number, seed, place, reference):
    """Run one mutation in a folder; exits with 3 if the result is wrong."""
    os.chdir(place)
    right = KINDS[number % len(KINDS)](np.random.default_rng([seed, number]), reference)
    sys.exit(0 if right else 3)


def make_references(folder):
    """Make the unmutated inputs in ``base``, and keep the right results."""
    reference = folder / "reference"
    for path in (folder / "base", reference):
        path.mkdir(parents=True)
    os.chdir(folder / "base")
    mutated_runs.make_base()
    for command, words in mutated_runs.COMMANDS.items():
        place = folder / f"of {command}"
        shutil.copytree(folder / "base", place)
        os.chdir(place)
        run_cli(*words)
        np.savez(reference / f"{command}.npz", **mutated_runs.read_result(command))
    run_cli(*mutated_inputs.COMMAND)
    np.savez(reference / "inputs.npz", **mutated_inputs.read_store())


def fault_of(status, text, case):
    """What is wrong with the end of a job on mutated input; None if nothing is."""
    if status is None:
        return "hangs"
    if "Traceback" in text or status not in (0, 2, 3):
        return f"traceback or crash, status {status}"
    if status == 3:
        return "SILENT: wrong without a word, or not refused"
    if status == 0:
        return None
    lines = [line for line in text.splitlines() if line.startswith("seaice-lab: ")]
    if len(lines) != 1:
        return f"{len(lines)} sentences"
    if not any(name in lines[0] for name in (*case[2], "moorings", "era5")):
        return "the message names neither file nor argument"
    return None if any(word in lines[0] for word in REMEDIES) else "the message has no remedy"


def mutate_inputs(options, folder):
    """Run the mutations and judge each result or message; returns the number of failures."""
    if wait(start(lambda: make_references(folder), folder / "log"), SECONDS) != 0:
        sys.exit(f"the references cannot be made: {tail(folder / 'log')}")
    table = {}
    for number in range(options.first, options.first + options.count):
        place, log = folder / str(number), folder / f"{number}.log"
        shutil.copytree(folder / "base", place)

        def job(number=number, place=place):
            try_mutation(number, options.seed, place, folder / "reference")

        status = wait(start(job, log), SECONDS)
        case = json.loads((place / "case.json").read_text())
        text = log.read_text(errors="replace")
        fault = fault_of(status, text, case)
        end = fault or ("right result" if status == 0 else f"refused, where {case[3]} is right")
        kind = KINDS[number % len(KINDS)].__name__.removeprefix("of_")
        table[kind, end] = table.get((kind, end), 0) + 1
        if fault:
            print(f"{number} {case}: {fault}: {tail(log)}", flush=True)
        shutil.rmtree(place)
    for (kind, end), count in sorted(table.items()):
        print(f"{kind:10s} {count:4d} {end}")
    return sum(count for (_, end), count in table.items() if not end.startswith(("right", "ref")))
