"""The training loop: it resumes exactly, stops when it should, and says when numbers break."""

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from seaice_lab.compute import Process, can_compile, prefetch, training_form
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.optimiser import descend, gradient_norm, learning_rate, update_average
from seaice_lab.training import TrainState, check_finite, fit, validate

TRUTH = torch.tensor([[1.0, -2.0, 0.5]])


class Line(torch.nn.Module):
    """Three weights to find, and dropout so that the random state matters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x):
        return self.layer(self.dropout(x))


def make_batches(seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(8, 3, generator=generator)
        yield x, x @ TRUTH.T


def squared_error(model, batch):
    x, y = batch
    error = ((model(x) - y) ** 2).mean()
    return {"loss": error, "error": error.detach()}


def settings(**changes):
    return FitConfig(**{"epochs": 6, "learning_rate": 0.05, "schedule": "cosine"} | changes)


def validation_batches():
    return make_batches(999, 2)


def run_fit(
    run,
    config,
    train_batches=make_batches,
    held_out=validation_batches,
    model=None,
    losses=squared_error,
):
    """Train a Line as a surrogate is trained."""
    run.mkdir(exist_ok=True)
    process = Process()
    device = process.device
    state = TrainState(model or Line(), config, process, steps_per_epoch=6)
    forward = training_form(state.model, config, process)

    def losses_of(model, batch):
        return losses(model, [part.to(device) for part in batch])

    def step(batch):
        values = losses_of(forward, batch)
        values["loss"].backward()
        return values | {"gradient_norm": descend(state)}

    def end_epoch():
        return validate(lambda batch: losses_of(state.averaged, batch), held_out(), process)

    return fit(step, train_batches, end_epoch, state, run, show=False)


def test_training_finds_the_weights_and_writes_the_history(tmp_path):
    history = run_fit(tmp_path / "run", settings(epochs=60, patience=60))
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    # Dropout of one fifth acts like a ridge: the best weights are four fifths of the true ones.
    torch.testing.assert_close(weights["layer.weight"], 0.8 * TRUTH, atol=0.15, rtol=0)
    written = pd.read_csv(tmp_path / "run" / "history.csv")
    assert written.epoch.tolist() == list(range(1, 61))
    assert written.validation_loss.iloc[-1] < 0.05 * written.validation_loss.iloc[0]
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), written.drop(columns="seconds"))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_killed_training_continues_bit_for_bit(tmp_path):
    whole = run_fit(tmp_path / "whole", settings())
    calls = []

    def dies_in_the_fourth_epoch(epoch):
        for batch in make_batches(epoch):
            calls.append(epoch)
            if len(calls) == 21:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        run_fit(tmp_path / "killed", settings(), train_batches=dies_in_the_fourth_epoch)
    assert len(pd.read_csv(tmp_path / "killed" / "history.csv")) == 3
    # A process killed between the two files must lack the checkpoint, not the history.
    names = ("history.csv", "checkpoint.pt")
    times = [(tmp_path / "killed" / name).stat().st_mtime_ns for name in names]
    assert times == sorted(times)
    killed = run_fit(tmp_path / "killed", settings())
    columns = [name for name in whole if name != "seconds"]
    pd.testing.assert_frame_equal(killed[columns], whole[columns], check_exact=True)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_averaged_weights_lag_behind_and_resume_bit_for_bit(tmp_path):
    model, averaged = Line(), Line()
    for value in averaged.parameters():
        torch.nn.init.zeros_(value)
    update_average(averaged, model, decay=0.9, step=1000)
    torch.testing.assert_close(averaged.layer.weight, 0.1 * model.layer.weight)
    update_average(averaged, model, decay=0.9, step=0)  # the first steps follow at once
    torch.testing.assert_close(averaged.layer.weight, 0.91 * model.layer.weight)

    config = settings(averaging=0.8)
    run_fit(tmp_path / "whole", config)
    with pytest.raises(InputError, match="no longer finite"):
        run_fit(tmp_path / "killed", config, train_batches=lambda epoch: breaks_in(epoch, 3))
    run_fit(tmp_path / "killed", config)
    run_fit(tmp_path / "plain", settings())
    whole, killed, plain = (
        load_file(tmp_path / name / "weights.safetensors")["layer.weight"]
        for name in ("whole", "killed", "plain")
    )
    assert torch.equal(whole, killed) and not torch.equal(whole, plain)


def breaks_in(epoch, when):
    for number, (x, y) in enumerate(make_batches(epoch)):
        yield x, y * (float("nan") if epoch == when and number == 3 else 1.0)


def test_it_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path):
    def grows_worse():
        grows_worse.count += 1
        x = torch.ones(4, 3)
        yield x, torch.full((4, 1), 100.0 * grows_worse.count)

    grows_worse.count = 0
    history = run_fit(tmp_path / "run", settings(epochs=50, patience=4), held_out=grows_worse)
    assert len(history) == 5


def test_a_gradient_that_is_not_finite_stops_with_a_sentence_and_keeps_the_weights(tmp_path):
    with pytest.raises(InputError, match=r"no longer finite at batch 4 of .*lower learning_rate"):
        run_fit(tmp_path / "run", settings(), train_batches=lambda epoch: breaks_in(epoch, 2))
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_of_several_gradients_checked_late_the_first_that_is_not_finite_is_named():
    norms = [torch.tensor(value) for value in (1.0, float("nan"), float("inf"))]
    losses = [{"loss": torch.tensor(float(value))} for value in range(5)]
    with pytest.raises(InputError, match="at batch 4 of the epoch .loss 3"):
        check_finite(norms, losses, settings())
    check_finite(norms[:1], losses, settings())


def test_the_gradient_norm_is_that_of_all_parameters_and_is_limited():
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(()))]
    weights[0].grad, weights[1].grad = torch.tensor([2.0, 3.0]), torch.tensor(6.0)
    assert gradient_norm(weights).item() == pytest.approx(7)
    assert gradient_norm(weights, limit=3.5).item() == pytest.approx(7)
    torch.testing.assert_close(weights[0].grad, torch.tensor([1.0, 1.5]))
    assert gradient_norm(weights[1:]).item() == pytest.approx(3)


def test_the_published_schedule_advances_and_scales_the_decay_with_the_rate():
    published = FitConfig(learning_rate=1.0)
    rates = [learning_rate(published, step, 1) for step in (0, 9_999, 10_000, 20_000)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01])
    cosine = FitConfig(learning_rate=2.0, schedule="cosine", warmup_steps=10, epochs=11)
    assert learning_rate(cosine, 0, 10) == pytest.approx(0.2)
    assert learning_rate(cosine, 10, 10) == pytest.approx(2)
    assert learning_rate(cosine, 60, 10) == pytest.approx(1)
    assert learning_rate(cosine, 110, 10) == pytest.approx(0)


def test_every_step_of_a_fit_is_the_published_one(tmp_path):
    config = FitConfig(epochs=2, learning_rate=0.05, weight_decay=1e-2, boundaries=(4, 9))
    model, ours = Line(), Line()
    model.dropout.p = ours.dropout.p = 0.0
    means = [torch.zeros(2, *weight.shape) for weight in model.parameters()]
    history = run_fit(tmp_path / "run", config, held_out=list, model=ours)
    batches = [batch for epoch in range(2) for batch in make_batches(epoch)]
    for step, batch in enumerate(batches, 1):
        scale = 1 if step <= 4 else 0.1 if step <= 9 else 0.01
        model.zero_grad()
        squared_error(model, batch)["loss"].backward()
        alpha = scale * 0.05 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        with torch.no_grad():
            for weight, (m, v) in zip(model.parameters(), means, strict=True):
                weight.mul_(1 - scale * 1e-2)
                m.lerp_(weight.grad, 0.1)
                v.lerp_(weight.grad**2, 0.001)
                weight.sub_(alpha * m / (v.sqrt() + 1e-7))
    assert history.learning_rate.tolist() == pytest.approx([0.05, 0.005])
    torch.testing.assert_close(ours.layer.weight.cpu(), model.layer.weight, rtol=1e-5, atol=1e-6)


def test_the_decay_takes_the_published_share_of_a_weight_at_every_step(tmp_path):
    # No gradient: the loss does not depend on the weights, so only the decay moves them.
    def flat(model, batch):
        return {"loss": 0 * model(batch[0]).sum()}

    model = Line()
    before = model.layer.weight.detach().clone()
    config = FitConfig(epochs=1, weight_decay=1e-2, learning_rate=5e-5, schedule="constant")
    run_fit(
        tmp_path / "run", config, lambda epoch: make_batches(epoch, 3), model=model, losses=flat
    )
    torch.testing.assert_close(model.layer.weight.detach().cpu(), before * 0.99**3)


@pytest.mark.skipif(not can_compile(), reason="needs g++ and Python's headers, or a GPU")
def test_a_compiled_model_trains_and_saves_under_the_plain_names(tmp_path):
    compiled = run_fit(tmp_path / "compiled", settings(epochs=2, compile="always"))
    assert compiled.train_loss.iloc[1] < compiled.train_loss.iloc[0]
    assert set(load_file(tmp_path / "compiled" / "weights.safetensors")) == {
        "layer.weight",
        "layer.bias",
    }


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(
        InputError, match="checkpoint.pt: cannot be read .* move it away to start this run over"
    ):
        run_fit(tmp_path / "run", settings())


def test_a_failing_batch_maker_fails_the_training_in_the_main_thread():
    def fails():
        yield 1
        raise InputError("broken file")

    taken = prefetch(fails())
    assert next(taken) == 1
    with pytest.raises(InputError, match="broken file"):
        next(taken)
