"""What a process may use of a machine that is shared: processors, memory, spinning threads."""

import os
import subprocess
import sys

import pytest

from seaice_lab import processors

GROUPS_2 = "0::/job/step\n"
GROUPS_1 = "4:memory:/job/step\n2:cpu,cpuacct:/job/step\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Sixty-four processors without limit; control groups are written below a folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def limits(own, **files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_0", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path, tmp_path / "own"

    return limits


def test_the_quota_of_a_group_or_of_one_that_contains_it_counts(machine):
    assert processors.processors(*machine(GROUPS_2)) == 64
    assert processors.processors(*machine(GROUPS_2, cpu_0max="max 100000")) == 64
    assert processors.processors(*machine(GROUPS_2, job__cpu_0max="250000 100000")) == 2
    assert processors.processors(*machine(GROUPS_2, job__step__cpu_0max="50000 100000")) == 1


def test_the_quota_of_version_one_counts(machine):
    files = {"cpu__job__cpu_0cfs_quota_us": "-1", "cpu__job__cpu_0cfs_period_us": "100000"}
    assert processors.processors(*machine(GROUPS_1, **files)) == 64
    files["cpu__job__cpu_0cfs_quota_us"] = "300000"
    assert processors.processors(*machine(GROUPS_1, **files)) == 3


def test_a_container_that_sees_its_group_as_the_root_is_limited(machine):
    assert processors.processors(*machine(GROUPS_2, cpu_0max="200000 100000")) == 2
    assert processors.memory_bytes(*machine(GROUPS_2, memory_0max="1000000")) == 1_000_000
    files = {"memory__memory_0limit_in_bytes": "2000"}
    assert processors.memory_bytes(*machine(GROUPS_1, **files)) == 2000


def test_affinity_and_threads_of_the_user_count(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert processors.processors(*machine(GROUPS_2)) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
    assert processors.processors(*machine(GROUPS_2)) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert processors.processors(*machine(GROUPS_2, cpu_0max="100000 100000")) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, processors.SPIN_COUNT),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_spinning_is_bounded_unless_the_user_decides(given, expected):
    free = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, seaice_lab; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=free | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
