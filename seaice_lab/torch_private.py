"""Private interfaces of torch, of the C library and of Panel, each in one function.

They may change without notice in any release. Each function says why the public interface does not
serve, and tests/test_torch_private.py says which function an upgrade has broken. Torch is imported
inside the functions, so that modules without torch can use this one.
"""

import ctypes
import sys
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # options of mallopt, from glibc's malloc.h
LARGEST_THRESHOLD = 2**31 - 1


def compile_graph(function, arguments, tracing_mode="real"):
    """Compile a function of tensors for arguments of given shapes.

    ``torch.compile`` checks its assumptions ("guards") at every call, which takes as long as the
    arithmetic of a small step. Here the function is traced once and compiled without guards, so
    the caller must not pass other shapes.

    Parameters
    ----------
    function : callable
        Takes and returns tensors.
    arguments : sequence of Tensor
        Examples of its arguments.
    tracing_mode : str
        "real" runs the function once on the arguments, "fake" traces it without running it, which
        functions that change their arguments need.

    Returns
    -------
    callable
        For arguments of the same shapes, types and devices.
    """
    import torch._inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function, tracing_mode=tracing_mode)(*arguments)
    return torch._inductor.compile(graph, list(arguments))


def compile_cache():
    """Folder in which torch.compile keeps compiled code; torch does not tell it publicly.

    Returns
    -------
    str
    """
    from torch._inductor.runtime import cache_dir_utils

    return cache_dir_utils.cache_dir()


def keep_freed_memory():
    """Make the C library keep freed memory for the next allocation, where it is glibc.

    On a CPU every training step frees and allocates the same large tensors. By default glibc
    returns them to the system and receives cleared pages again, which takes a quarter of a step at
    256 x 256 cells. Torch has no setting for that.

    Returns
    -------
    bool
        Whether the C library accepted both options.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return False
    # no allocation gets a mapping that is unmapped when it is freed
    no_mappings = libc.mallopt(M_MMAP_MAX, 0)
    never_trimmed = libc.mallopt(M_TRIM_THRESHOLD, LARGEST_THRESHOLD)
    return bool(no_mappings and never_trimmed)


@contextmanager
def lasting_tensors():
    """Make tensors that may be kept, also in inference mode and in a transform of ``torch.func``.

    A tensor made in such a transform is a wrapper without memory of its own. Torch can leave the
    inference mode publicly, but not the transforms.

    Yields
    ------
    None
    """
    import torch

    with torch.inference_mode(False), torch._C._DisableFuncTorch():
        yield


@contextmanager
def no_denormals():
    """Treat float32 numbers below about 1e-38 as zero, in this thread and in threads it starts.

    Adam's mean of a gradient that has stopped decays into this range, where it changes no weight
    but makes arithmetic many times slower. Torch can set the flag of the processor but not read
    it, so that the previous setting is found by a calculation.

    Yields
    ------
    None
    """
    import torch

    was_flushed = not (torch.tensor([1e-38]) / 10).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushed)


def set_change_delay(widget, delay_ms):
    """Set how long the server waits for further changes of a Panel widget.

    By default Panel answers 50 ms after the first change, which is most of the time that a new
    picture of a map takes. It has no setting for that. A short delay still skips the positions that
    a slider passes while it is dragged.

    Parameters
    ----------
    widget : panel.widgets.Widget
    delay_ms : int

    Returns
    -------
    panel.widgets.Widget
        The same widget.
    """
    widget._debounce = delay_ms
    return widget
