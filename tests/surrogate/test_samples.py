"""Windows: which records enter, how they are scaled, and that nothing is crossed."""

import numpy as np
import pytest
import torch
import xarray as xr

from seaice_lab.compute import Process
from seaice_lab.errors import InputError
from seaice_lab.surrogate import samples
from seaice_lab.surrogate.fields import derived_field
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.samples import Samples, batches, choose_device
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.store import locate, open_store
from seaice_lab.surrogate.windows import WINDOWS, Window, find_window


def test_the_self_consistent_window_is_state_now_forcing_three_times_and_twelve_hours_on():
    window = find_window("self_consistent")
    assert window.inputs == (
        ("sit", 0), ("u10", 0), ("v10", 0), ("t2m", 0), ("u10", 6), ("u10", 12),
        ("v10", 6), ("v10", 12), ("t2m", 6), ("t2m", 12),
    )  # fmt: skip
    assert (window.start_h, window.targets, window.step_h) == (0, (("sit", 12),), 12)


def test_the_published_windows_have_the_offsets_of_the_published_index_sets():
    surrogate, later = WINDOWS["published_surrogate"], WINDOWS["published_4dvar"]
    assert [lag for _, lag in surrogate.inputs] == [0, 0, 0, 0, 12, 24, 12, 24, 12, 24]
    assert (surrogate.start_h, surrogate.targets, surrogate.step_h) == (24, (("sit", 36),), 12)
    assert [lag for _, lag in later.inputs] == [0, 0, 0, 0, 6, 12, 6, 12, 6, 12]
    assert (later.start_h, later.targets) == (-12, (("sit", 12),))


def test_a_sample_holds_the_records_its_window_names(store, waves):
    train = Samples(store, WINDOWS["self_consistent"], "train")
    raw = xr.load_dataset(waves / "train_1.nc")
    ocean = raw.mask.values == 1
    x, y = train[5]
    scale = train.normalisation
    for channel, (name, lag) in enumerate(train.window.inputs):
        record = raw[name].values[5 + int(lag // 6)]
        expected = (record - scale[name]["mean"]) / scale[name]["std"]
        np.testing.assert_allclose(x[channel].numpy()[ocean], expected[ocean], atol=1e-5)
        assert np.all(x[channel].numpy()[~ocean] == 0)
    change = (raw.sit.values[7] - raw.sit.values[5]) * np.ones(1, "float32")
    (scale,) = scale["increments"]
    expected = (change - scale["mean"]) / scale["std"]
    np.testing.assert_allclose(y[0].numpy()[ocean], expected[ocean], atol=1e-5)


def test_inputs_and_target_have_mean_zero_and_spread_one_over_the_training_ocean(store):
    train = Samples(store, WINDOWS["self_consistent"], "train")
    _, y = train.take(range(len(train)))
    sea = y[:, 0, torch.from_numpy(train.fields.ocean)]
    assert sea.mean().item() == pytest.approx(0, abs=1e-5)
    assert sea.std().item() == pytest.approx(1, abs=1e-3)


def test_windows_never_cross_a_segment_or_leave_their_split(store):
    train = Samples(store, WINDOWS["self_consistent"], "train")
    fields = open_store(store)
    # 24 records a run, the window reaches 2 records ahead: 22 starts in each of two runs
    assert len(train) == 44
    start, end = train.positions[0.0], train.positions[12.0]
    np.testing.assert_array_equal(fields.segment.values[start], fields.segment.values[end])
    np.testing.assert_array_equal(end - start, 2)
    assert set(fields.split.values[end]) == {0}


def test_a_window_with_offsets_between_records_is_refused(store):
    odd = Window(inputs=(("sit", 0.0), ("u10", 5.0)))
    with pytest.raises(InputError, match=r"no start has all of \+0 to \+12 h in the train split"):
        Samples(store, odd, "train")


def test_a_rollout_longer_than_the_run_is_refused(store):
    with pytest.raises(InputError, match="ask for fewer steps"):
        locate(open_store(store), [12.0 * step for step in range(30)], "test")


@pytest.fixture
def small_groups(monkeypatch):
    """Twelve windows a group and four a series, on the grid of the tests."""
    monkeypatch.setattr(samples, "GROUP_BYTES", 12 * 5 * 4 * 32 * 32)
    monkeypatch.setattr(samples, "SERIES_WINDOWS", 4)


@pytest.mark.parametrize("steps", [1, 2])
def test_windows_are_the_same_from_memory_and_from_the_store(store, steps):
    inputs = (("sit", 0.0), ("u10", -6.0), ("u10", 6.0), ("latitude", 0.0), ("season_sine", 6.0))
    window = Window(inputs=inputs, targets=(("sit", 12.0), ("sit", 6.0)))
    kept = Samples(store, window, "train", steps=steps)
    streamed = Samples(store, window, "train", kept.normalisation, steps, device=None)
    for a, b in zip(kept.take([3, 30, 7, 3]), streamed.take([3, 30, 7, 3]), strict=True):
        assert torch.equal(a, b)
    raw, (name, scale) = open_store(store), ("u10", kept.normalisation["u10"])
    for step in range(steps):
        record = raw[name].values[kept.positions[-6.0 + 12 * step][30]]
        x = kept.take([30])[0].reshape(steps, -1, 32, 32)[step, 1]
        expected = (record - np.float32(scale["mean"])) * np.float32(1 / scale["std"])
        np.testing.assert_array_equal(x, np.where(raw.ocean, expected, 0))


def test_an_epoch_from_the_store_has_every_window_once_and_reads_every_time_about_once(
    store, small_groups, monkeypatch
):
    streamed = Samples(store, WINDOWS["self_consistent"], "train", device=None)
    times, read = [], streamed.fields.read_into
    monkeypatch.setattr(
        streamed.fields, "read_into", lambda name, at, out: times.extend(at) or read(name, at, out)
    )
    groups = list(samples.groups_of_batches(streamed, 4, (0, 1), 0, 1))
    assert [len(group) for group in groups] == [3, 3, 3, 2]
    assert sorted(np.concatenate(sum(groups, []))) == list(range(44))
    series = {index // 4 for index in np.concatenate(groups[0])}
    assert len(series) <= 4  # of four windows each
    assert max(series) - min(series) > 3  # from different times
    ys = torch.cat([y for _, y in batches(streamed, 4, (0, 1))])
    order = np.concatenate(sum(groups, []))
    assert torch.equal(ys, streamed.take(order)[1])
    assert len(times) / 2 < 2.2 * 4 * 48  # of the two passes; windows of a series overlap
    unshuffled = torch.cat([y for _, y in batches(streamed, 4)])
    assert torch.equal(unshuffled, streamed.take(range(44))[1])


def test_the_groups_of_an_epoch_reuse_the_memory_of_three(store, monkeypatch):
    streamed = Samples(store, WINDOWS["self_consistent"], "train", device=None)
    expected, make, places = streamed.take(range(44))[1], samples.Block, []

    def block(*arguments):
        made = make(*arguments)
        places.append(made.values.data_ptr())
        return made

    monkeypatch.setattr(samples, "Block", block)
    monkeypatch.setattr(samples, "GROUP_BYTES", 1)  # one batch a group
    assert torch.equal(torch.cat([y for _, y in batches(streamed, 4)]), expected)
    assert len(places) == 11 and places[-3:] == places[-6:-3] and len(set(places[-3:])) == 3


def test_the_next_epoch_reuses_the_memory_of_the_one_before(store, small_groups):
    streamed = Samples(store, WINDOWS["self_consistent"], "train", device=None)
    memory, epochs, places = [], [], []
    for _ in range(2):
        ys = [y for _, y in batches(streamed, 4, (0, 1), memory=memory)]
        epochs.append(torch.cat(ys))
        places.append([tensor.data_ptr() for tensor in memory])
    assert torch.equal(*epochs) and places[0] == places[1]
    assert len(memory) == 3 and min(map(len, memory)) > 0


def test_processes_read_their_own_series_and_share_the_batches(store, small_groups):
    streamed = Samples(store, WINDOWS["self_consistent"], "train", device=None)
    one = [
        set(batch)
        for group in samples.groups_of_batches(streamed, 4, (0, 1), 0, 1)
        for batch in group
    ]
    ranks = [list(samples.groups_of_batches(streamed, 2, (0, 1), rank, 2)) for rank in (0, 1)]
    pairs = zip(*(sum(groups, []) for groups in ranks), strict=True)
    assert [set(first) | set(second) for first, second in pairs] == one
    for first, second in zip(*ranks, strict=True):
        shared = {i // 4 for i in np.concatenate(first)} & {i // 4 for i in np.concatenate(second)}
        assert len(shared) <= 1
    both = [
        batch
        for rank in (0, 1)
        for group in samples.groups_of_batches(streamed, 4, None, rank, 2)
        for batch in group
    ]
    assert sorted(np.concatenate(both)) == list(range(44))


def test_the_fields_are_kept_where_they_fit(store):
    window, process = WINDOWS["self_consistent"], Process()
    needed = 4 * 5 * 32 * 32 * 72 / 1e9  # five fields at the times of training and validation
    device, text = choose_device("auto", store, window, process)
    assert device == torch.device("cpu")
    assert text.startswith(f"fields: {needed:.2f} GB in memory (of ")
    process.memory_bytes = lambda device: 1.9 * needed * 1e9
    assert choose_device("auto", store, window, process)[0] is None
    assert choose_device("memory", store, window, process)[0] == torch.device("cpu")
    device, text = choose_device("store", store, window, Process())
    assert device is None and "from the store in groups of 1.3 GB" in text


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone(store):
    train = Samples(store, WINDOWS["self_consistent"], "train")

    def order(seed, epoch):
        return torch.cat([y for _, y in batches(train, 8, shuffle=(seed, epoch))])

    assert torch.equal(order(seed=1, epoch=2), order(seed=1, epoch=2))
    assert not torch.equal(order(seed=1, epoch=2), order(seed=1, epoch=3))
    assert not torch.equal(order(seed=1, epoch=2), order(seed=2, epoch=2))


def test_processes_share_an_epoch_without_overlap(store):
    train = Samples(store, WINDOWS["self_consistent"], "train")
    shares = [
        torch.cat([y for _, y in batches(train, 4, shuffle=(0, 0), rank=rank, world=2)])
        for rank in (0, 1)
    ]
    one_process = torch.cat([y for _, y in batches(train, 8, shuffle=(0, 0))])
    two_processes = torch.cat(shares)
    assert len(two_processes) == len(one_process) == 40
    assert sorted(two_processes.sum((1, 2, 3))) == sorted(one_process.sum((1, 2, 3)))


def test_a_batch_larger_than_the_split_is_refused(store):
    train = Samples(store, WINDOWS["self_consistent"], "train")
    with pytest.raises(InputError, match="batch_size 64 .* more than the 44 windows"):
        next(batches(train, 64, shuffle=(0, 0)))


def test_a_store_without_a_needed_variable_is_refused(waves, tmp_path):
    config = PrepareConfig(state="waves", forcing_variables=("u10", "v10"))
    path = prepare(config, tmp_path / "few.zarr", show=False)
    with pytest.raises(InputError, match=r"few.zarr: lacks the variable 't2m'"):
        Samples(path, WINDOWS["self_consistent"], "train")


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_damaged_store_is_refused_when_it_is_read(store, device):
    train = Samples(store, WINDOWS["self_consistent"], "train", device=device)
    chunk = store / "u10" / "c" / str(train.positions[6.0][3]) / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"waves.zarr: u10 cannot be read .*prepare. again"):
        train.take([3])
    chunk.unlink()
    for _ in range(2):
        with pytest.raises(InputError, match=r"waves.zarr: u10 .*NaN in the ocean.*missing"):
            train.take([3])


def test_an_unknown_window_lists_the_known_ones():
    with pytest.raises(InputError, match="published_4dvar"):
        find_window("tomorrow")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (("u10", 0.0), ("sit", 0.0))}, "begin with the present state"),
        ({"inputs": (("sit", 0.0), ("u10", 0.0), ("sit", -12.0))}, "state must come before"),
        ({"inputs": (("sit", 0.0), ("sit", 12.0))}, "at 0 h or earlier"),
        ({"inputs": (("sit", 0.0), ("sit", -24.0))}, r"needs \(sit, -12\) too"),
        ({"targets": (("sit", 0.0),)}, "must be after start_h 0"),
        ({"targets": (("sit", 12.0), ("sic", 24.0))}, "same offset of every variable"),
    ],
)
def test_a_window_that_cannot_be_stepped_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Window(**{"inputs": (("sit", 0.0), ("u10", 0.0))} | changes)


def test_steps_of_a_rollout_are_windows_one_step_apart(store):
    window = WINDOWS["self_consistent"]
    single = Samples(store, window, "train")
    double = Samples(store, window, "train", single.normalisation, steps=2)
    x, y = double.take([0, 5])
    assert x.shape == (2, 2, 10, 32, 32)
    assert y.shape == (2, 2, 1, 32, 32)
    for step in range(2):
        alone = single.take([0 + 2 * step, 5 + 2 * step])
        assert torch.equal(x[:, step], alone[0])
        assert torch.equal(y[:, step], alone[1])
    assert len(double) == len(single) - 4  # two starts fewer in each of two runs


def test_fields_of_place_and_season(store):
    window = Window(
        inputs=(("sit", 0.0), ("latitude", 0.0), ("coast_distance_km", 0.0), ("season_sine", 6.0))
    )
    train = Samples(store, window, "train")
    x, _ = train.take([0, 3])
    fields = open_store(store)
    ocean = torch.from_numpy(fields.ocean.values)
    latitude = x[1, 1] * train.normalisation["latitude"]["std"] + 75
    np.testing.assert_allclose(latitude[ocean], fields.latitude.values[ocean], rtol=1e-6)
    distance = x[1, 2] * 300 + 300
    assert distance[3, 0].item() == pytest.approx(25, rel=0.1)  # next to land, 25 km away
    assert distance[20, 10] > distance[5, 2]
    # the third record after the first of January at 00 h, six hours on
    expected = np.sin(2 * np.pi * (4 * 6 / 24) / 365.2425)
    assert x[1, 3][ocean].numpy() == pytest.approx(expected, rel=1e-4)


def test_the_latitude_of_a_southern_store_is_its_distance_from_the_equator(store):
    fields = open_store(store)
    south = fields.assign_coords(latitude=-fields.latitude)
    north = derived_field("latitude", fields)
    np.testing.assert_array_equal(derived_field("latitude", south), north)


def test_two_output_steps_have_two_increments(store):
    inputs = WINDOWS["self_consistent"].inputs
    train = Samples(store, Window(inputs=inputs, targets=(("sit", 12.0), ("sit", 24.0))), "train")
    _, y = train.take([2])
    fields = open_store(store).sit.values
    now = train.positions[0.0][2]
    for channel, later in enumerate((now + 2, now + 4)):
        scale = train.normalisation["increments"][channel]
        expected = (fields[later] - fields[now] - scale["mean"]) / scale["std"]
        ocean = train.fields.ocean
        np.testing.assert_allclose(y[0, channel].numpy()[ocean], expected[ocean], atol=1e-5)
