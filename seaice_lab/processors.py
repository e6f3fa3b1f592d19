"""How many processors and how much memory a process may use on a machine that it shares."""

import os
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SPIN_COUNT = "10000"  # checks of a waiting OpenMP thread before it sleeps; the default is 300,000


def processors(cgroups=CGROUPS, membership=MEMBERSHIP):
    """Number of processors that this process may use.

    Parameters
    ----------
    cgroups : Path
        Where the control groups of Linux are mounted.
    membership : Path
        File that lists the control groups of this process.

    Returns
    -------
    int
        The smallest of the processors on which the system may run this process, the quota of its
        control groups (version 1 or 2), and ``OMP_NUM_THREADS``.
    """
    counts = [_scheduled()]
    for folder in _groups("cpu", cgroups, membership):
        quota = _numbers(folder / "cpu.max") or [
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and quota[0] > 0:  # microseconds of each period; -1: no limit
            counts.append(quota[0] // quota[1])
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    counts += [int(threads)] if threads.isdecimal() else []
    return max(min(counts), 1)


def is_first_process():
    """Whether this is the first process of ``torchrun``, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def memory_bytes(cgroups=CGROUPS, membership=MEMBERSHIP):
    """Memory that this process may use: that of the machine, or the limit of its control groups.

    Parameters
    ----------
    cgroups, membership : Path
        As in :func:`processors`.

    Returns
    -------
    int
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups("memory", cgroups, membership):
        limits += _numbers(folder / "memory.max") + _numbers(folder / "memory.limit_in_bytes")
    return min(limits)


def set_environment():
    """Set the environment variables of OpenMP that the user has not set.

    They count for libraries that are loaded later. A thread that waits for others makes a few
    checks and then sleeps, because on a busy machine it would take the time of those it waits for.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    if processors() < _scheduled():  # OpenMP knows no quota
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))


def _scheduled():
    """Processors on which the system may run this process."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _groups(controller, cgroups, membership):
    """Folders of the control groups of this process, with all groups that contain them."""
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            # Version 2 has one tree for all controllers; a container may see its group as the root.
            root = cgroups / controller if controllers else cgroups
            names = Path(path.lstrip("/")).parts
            yield from (root.joinpath(*names[:depth]) for depth in range(len(names) + 1))


def _numbers(path):
    """The numbers in a file; none if it is missing or says "max"."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
