"""Progress: a bar at a terminal and in JupyterLab, single lines in unattended runs; notes."""

import os
import sys
import time

from tqdm import tqdm as text_bar
from tqdm.auto import tqdm

from seaice_lab.processors import is_first_process

# This environment variable is set while a notebook is executed unattended. A bar would print a line
# at each refresh there.
BATCH = "SEAICE_BATCH"
BATCHES_S = 1.0  # time after which a bar over epochs shows the new number of batches done


def in_batch():
    """Whether the program runs unattended and should print lines instead of bars."""
    interactive = sys.modules.get("IPython")
    in_jupyter = hasattr(interactive and interactive.get_ipython(), "kernel")
    return bool(os.environ.get(BATCH)) or not (in_jupyter or sys.stderr.isatty())


def line(text):
    """Print a line of progress: with the output of a notebook, else on the error stream.

    Under ``torchrun`` only the first process prints it.
    """
    if is_first_process():
        print(text, file=sys.stdout if os.environ.get(BATCH) else sys.stderr, flush=True)


class _Lines:
    """A stream on which each refresh of a bar is a line of its own; equal counts come once."""

    count = ""

    def write(self, text):
        count, bracket, times = text.strip("\r\n ").partition(" [")
        if count and count != self.count:
            line(count + bracket + times)
            self.count = count

    def flush(self):
        """Do nothing; every line is flushed."""


def bar(total, description, unit, done=0, show=True):
    """A progress bar; in unattended runs a line at each tenth, and nothing in a notebook.

    Parameters
    ----------
    total : int
        Number of units.
    description, unit : str
    done : int
        Units that were finished before.
    show : bool

    Returns
    -------
    tqdm
        Context manager with the method ``update``.
    """
    options = {"total": total, "desc": description, "unit": unit, "initial": done}
    if not in_batch():
        return tqdm(disable=not show, mininterval=0.5, **options)
    bar_format = "{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"
    # A line is written for the count only, not for the time or by the monitor of tqdm.
    steps = {"mininterval": 0, "maxinterval": float("inf"), "miniters": max(total / 10, 1)}
    disable = not show or bool(os.environ.get(BATCH))
    return text_bar(disable=disable, file=_Lines(), bar_format=bar_format, **steps, **options)


def bar_over(items, description, unit):
    """Iterate over a collection with a progress bar, or with one line for each item if unattended.

    Parameters
    ----------
    items : iterable
        A line shows the item, or the first element of a tuple.
    description, unit : str

    Yields
    ------
    object
        The items.
    """
    items = list(items)
    with bar(len(items), description, unit, show=not in_batch()) as progress_bar:
        for number, item in enumerate(items, 1):
            if in_batch():
                name = item[0] if isinstance(item, tuple) else item
                line(f"{description} {number}/{len(items)}: {name}")
            yield item
            progress_bar.update()


def numbered(batches, bar, description, total):
    """Iterate over batches; once a second, a bar over epochs shows how many of them are done.

    Parameters
    ----------
    batches : iterable
    bar : tqdm
        From :func:`bar`.
    description : str
        Description of the bar, which it has again after the last batch.
    total : int
        Number of batches.

    Yields
    ------
    object
        The batches.
    """
    shown = time.monotonic()
    for number, batch in enumerate(batches, 1):
        yield batch
        if time.monotonic() - shown > BATCHES_S:
            bar.set_description(f"{description}, batch {number}/{total}")
            shown = time.monotonic()
    bar.set_description(description)


def note(text):
    """Tell the user in one line how an input was read.

    The line is not part of the output of a command, since it goes to the standard error, but it is
    part of the output of a notebook that is executed unattended.

    Parameters
    ----------
    text : str
    """
    line(f"note: {text}")
