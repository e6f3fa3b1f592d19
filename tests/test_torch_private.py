"""Private interfaces of torch, the C library and Panel: an upgrade that changes one fails here."""

import os
import platform
import subprocess
import sys

import panel
import pytest
import torch

from seaice_lab import torch_private
from seaice_lab.compute import can_compile


@pytest.mark.skipif(not can_compile(), reason="needs g++ and Python's headers, or a GPU")
@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_a_graph_is_compiled_and_runs_its_function_once_when_traced_for_real(tracing_mode):
    calls = []

    def function(a, b):
        calls.append(1)
        return a.sin() * b, (a + b).sum()

    arguments = torch.arange(5.0), torch.ones(5)
    try:
        compiled = torch_private.compile_graph(function, arguments, tracing_mode)
    except (ImportError, AttributeError, TypeError) as error:
        pytest.fail(
            f"torch {torch.__version__} changed torch._inductor.compile or make_fx: {error}"
        )
    traced = len(calls)
    product, total = compiled(2 * arguments[0], arguments[1])
    torch.testing.assert_close(product, (2 * arguments[0]).sin())
    assert total.item() == 25
    assert len(calls) == traced == 1, "the function is called again instead of its graph"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
def test_the_c_library_keeps_freed_memory():
    # in a process of its own, whose memory nothing else allocates or frees
    script = """
import os
from seaice_lab import torch_private
assert torch_private.keep_freed_memory(), "mallopt refused an option"
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
block = bytearray(2**26)
block = None
assert resident() - before > 2**25, "freed memory went back to the system"
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_tensor_made_in_inference_or_in_a_transform_may_be_kept():
    kept = []

    def function(x):
        with torch_private.lasting_tensors():
            kept.append(torch.tensor([2.0]))
        return x * kept[-1]

    assert torch.func.jvp(function, (torch.ones(1),), (torch.ones(1),))[1].item() == 2
    with torch.inference_mode():
        function(torch.ones(1))
    assert all(tensor.data_ptr() and not tensor.is_inference() for tensor in kept)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zero_inside_and_as_before_afterwards(before):
    def flushed():
        return not (torch.tensor([1e-38]) / 10).any()

    torch.set_flush_denormal(before)
    try:
        with pytest.raises(KeyboardInterrupt), torch_private.no_denormals():
            assert flushed(), "torch.set_flush_denormal has no effect on this processor"
            raise KeyboardInterrupt
        assert flushed() == before
    finally:
        torch.set_flush_denormal(False)


def test_a_change_of_a_panel_widget_is_answered_after_the_delay():
    class Document:
        session_context = "session"

        def add_timeout_callback(self, callback, delay_ms):
            delays.append(delay_ms)

    delays = []
    widget = torch_private.set_change_delay(panel.widgets.Player(), 5)
    widget._server_change(Document(), "ref", None, "value", 0, 1)  # as for a change in a browser
    assert delays == [5], f"panel {panel.__version__} does not use _debounce any more"
