"""The benchmark that is meant for a GPU runs through on a processor."""

from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_benchmark_for_a_gpu_prints_and_logs_every_part(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    sizes = "--size 16 --width 2 --batch 4 --batches 1 --times 24 --starts 2 --steps 1"
    other = "--copy-megabytes 1 --precision float32 --compile never --log"
    gpu.main([*sizes.split(), *other.split(), str(tmp_path / "gpu.log")])
    log = (tmp_path / "gpu.log").read_text()
    assert log == capsys.readouterr().out
    for line in ("in memory (of", "from the store", "loader ", "both ", "head ", "rollout of 2"):
        assert line in log
