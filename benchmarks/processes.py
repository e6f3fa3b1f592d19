"""Jobs in forked processes: start them, wait for them, and read their last words."""

import os
import signal
import sys
import time

import torch

from seaice_lab.errors import InputError


def start(job, log):
    """Start ``job()`` in a forked process; its output goes to the file ``log``."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        torch.set_num_threads(1)
        job()
        status = 0
    except InputError as error:
        os.write(2, f"seaice-lab: {error}\n".encode())
        status = 2
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def wait(process, seconds):
    """Exit status of a process, negative for a signal; None if it had to be killed at the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def tail(log):
    """The last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "no output"
