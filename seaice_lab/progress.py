"""Progress as people see it: a bar at a terminal or in JupyterLab, single lines in batch."""

import os

from tqdm.auto import tqdm

# Set while a notebook is executed unattended, where a bar would print every refresh as a line.
BATCH = "SEAICE_BATCH"


def in_batch():
    """Whether the program runs unattended, so that lines are wanted instead of bars."""
    return bool(os.environ.get(BATCH))


def bar(total, description, unit, done=0, show=True):
    """A progress bar (context manager with ``update``), silent in batch."""
    return tqdm(total=total, desc=description, unit=unit, initial=done,
                disable=not show or in_batch(), mininterval=0.5)  # fmt: skip


def bar_over(items, description, unit):
    """Go through a collection under a progress bar; in batch one line an item."""
    items = list(items)
    with bar(len(items), description, unit) as shown:
        for number, item in enumerate(items, 1):
            if in_batch():
                name = item[0] if isinstance(item, tuple) else item
                print(f"{description} {number}/{len(items)}: {name}", flush=True)
            yield item
            shown.update()
