"""Progress: a bar at a terminal and in JupyterLab, single lines in unattended runs."""

import os

from tqdm.auto import tqdm

# This environment variable is set while a notebook is executed unattended. A bar would print a line
# at each refresh there.
BATCH = "SEAICE_BATCH"


def in_batch():
    """Whether the program runs unattended and should print lines instead of bars."""
    return bool(os.environ.get(BATCH))


def bar(total, description, unit, done=0, show=True):
    """A progress bar, silent in unattended runs.

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
    options = {"initial": done, "disable": in_batch() or not show, "mininterval": 0.5}
    return tqdm(total=total, desc=description, unit=unit, **options)


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
    with bar(len(items), description, unit) as progress_bar:
        for number, item in enumerate(items, 1):
            if in_batch():
                name = item[0] if isinstance(item, tuple) else item
                print(f"{description} {number}/{len(items)}: {name}", flush=True)
            yield item
            progress_bar.update()
