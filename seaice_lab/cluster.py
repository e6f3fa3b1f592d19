"""Work on blocks of data, in this process or on the workers of a dask cluster."""

import re

from seaice_lab import files
from seaice_lab.errors import InputError

CLUSTER_S = 60  # to wait for a dask cluster


def apply_to_blocks(function, blocks, arguments, scheduler=None):
    """Apply a function to blocks, in this process or on the workers of a dask cluster.

    Parameters
    ----------
    function : callable
        Called as ``function(block, *arguments)``.
    blocks : sequence
        Positions on an axis, for example.
    arguments : tuple
        Every worker receives them once. Lazy datasets stay lazy, so that each worker reads what it
        needs.
    scheduler : str, optional
        Address of a dask.distributed scheduler. Its workers must reach the same files. Without it
        this process does one block after the other.

    Yields
    ------
    block
    result
        Of the function. The blocks of a cluster come in the order in which they are complete.

    Raises
    ------
    InputError
        If the address is wrong, the cluster cannot be reached, or a worker or its network fails.
    """
    if scheduler is None:
        for block in blocks:
            yield block, function(block, *arguments)
        return
    if not re.fullmatch(r"(\w+://)?.+:\d+", scheduler):
        raise InputError(f"scheduler {scheduler!r}: expected an address such as tcp://host:8786")
    if not blocks:
        return
    from distributed import Client, as_completed

    try:
        with Client(scheduler, timeout=CLUSTER_S) as client:
            client.wait_for_workers(1, timeout=CLUSTER_S)
            shared = client.scatter(arguments, broadcast=True, hash=False)
            tasks = {client.submit(function, block, *shared): block for block in blocks}
            for task in as_completed(tasks):
                yield tasks[task], task.result()
    except Exception as error:  # distributed raises many kinds when a worker or its network fails
        full_disk = isinstance(error, OSError) and error.errno in files.DISK_ERRORS
        if full_disk or isinstance(error, InputError):
            raise
        reason = (str(error) or "no reason is given").splitlines()[0]
        raise InputError(
            f"scheduler {scheduler}: the dask cluster failed ({type(error).__name__}: {reason}); "
            "check that it runs, that its workers have this version of seaice_lab and enough "
            "memory, and run the same command again to continue"
        ) from None
