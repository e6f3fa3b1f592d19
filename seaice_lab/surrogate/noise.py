"""Random fields of a noise-conditioned network: one for each level, channel, member and step.

The noise is white on each level, and has a memory in time, because the errors of successive steps
are correlated: damage and velocity of the ice are no part of the state. It can be intermittent:
then its amplitude varies from place to place as well, because errors are small nearly everywhere
and large along the few lines where the ice breaks.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from seaice_lab import progress
from seaice_lab.errors import InputError
from seaice_lab.surrogate.networks import POOLINGS

EXPECTED = {  # values in calibration.json
    "noise_gain": "a number of at least 0, or a list with one for each level",
    "noise_memory": "a number of at least 0 and below 1",
}


class Noise(NamedTuple):
    """Which noise a network takes, and how forecasts scale it.

    Parameters
    ----------
    shapes : list of (int, int)
        Rows and columns of each level, finest first.
    channels : int
        Random fields on each level.
    memory : float
        Correlation of the noise of successive steps.
    gain : float or tuple of float
        Factor of the noise in a forecast, or a factor for each level.
    intermittency : float
        Standard deviation of the logarithm of the local amplitude; 0: the noise is Gaussian.
    """

    shapes: list
    channels: int
    memory: float
    gain: float | tuple = 1.0
    intermittency: float = 0.0

    @property
    def gains(self):
        """Gain of each level."""
        return tuple(self.gain) if np.ndim(self.gain) else (self.gain,) * len(self.shapes)

    def of_members(self, seed, starts, members):
        """The noise of the members of an ensemble, step by step.

        The noise of a member has its own stream of random numbers for each seed, start, member and
        step. It does not depend on the other members and starts, nor on the device.

        Parameters
        ----------
        seed : int
        starts : sequence of int
            Numbers of the starts, such as their positions on the time axis of a store.
        members : sequence of int
            Numbers of the members, from 0.

        Yields
        ------
        list of torch.Tensor (start * member, channel, y, x)
            One for each level, for one step after the other, without end.
        """
        fields = self._shapes()
        sizes = [channels * ny * nx for channels, ny, nx in fields]

        def numbers(start, member, step):
            # Philox is counter-based; the seed sequence keeps the streams independent.
            source = np.random.Philox([seed, int(start), int(member), step])
            values = np.random.Generator(source).standard_normal(sum(sizes), dtype="float32")
            return torch.from_numpy(values)

        def white():
            step = 0
            while True:
                drawn = torch.stack([numbers(s, m, step) for s in starts for m in members])
                yield [
                    values.view(-1, *shape)
                    for values, shape in zip(drawn.split(sizes, 1), fields, strict=True)
                ]
                step += 1

        for levels in self._correlated(white()):
            yield [gain * values for gain, values in zip(self.gains, levels, strict=True)]

    def random(self, count, device):
        """The noise of a training batch, from torch's own random numbers, with a gain of 1.

        Parameters
        ----------
        count : int
            Members of all samples together.
        device : torch.device

        Yields
        ------
        list of torch.Tensor (count, channel, y, x)
            As in :meth:`of_members`.
        """

        def white():
            while True:
                yield [torch.randn((count, *shape), device=device) for shape in self._shapes()]

        return self._correlated(white())

    def _shapes(self):
        """Shapes (channel, y, x) of the random fields: the levels, and that of the amplitude."""
        levels = [(self.channels, *shape) for shape in self.shapes]
        return levels + [(1, *self.shapes[-1])] * (self.intermittency > 0)

    def _correlated(self, white):
        """n(k) = memory n(k - 1) + sqrt(1 - memory^2) xi(k), n(0) = xi(0); times the amplitude.

        The amplitude is exp(s h - s^2) with the intermittency s and a field h of the coarsest
        level, where its mean square is 1; interpolation to the finer levels lowers it.
        """
        noise, scale = next(white), (1 - self.memory**2) ** 0.5
        while True:
            levels = noise
            if self.intermittency:
                *levels, h = noise
                amplitude = torch.exp(self.intermittency * h - self.intermittency**2)
                levels = [
                    values * F.interpolate(amplitude, values.shape[-2:], mode="bilinear")
                    for values in levels
                ]
            yield levels
            noise = [
                self.memory * previous + scale * values
                for previous, values in zip(noise, next(white), strict=True)
            ]


def noise_of(config, ocean):
    """The noise that the network of a configuration takes in training.

    Parameters
    ----------
    config : TrainConfig
    ocean : torch.Tensor of bool (y, x)

    Returns
    -------
    Noise or None
        None for a deterministic network.
    """
    if config.loss != "crps":
        return None
    ny, nx = ocean.shape
    shapes = [(ny // 2**level, nx // 2**level) for level in range(POOLINGS[config.network] + 1)]
    noise = Noise(shapes, config.noise_channels, config.noise_memory)
    return noise._replace(intermittency=config.noise_intermittency)


def read_calibration(run):
    """Sizes of the perturbations of an ensemble that were chosen on the validation split.

    Parameters
    ----------
    run : Path
        Run folder.

    Returns
    -------
    dict of str to float or list of float
        As :func:`~seaice_lab.surrogate.calibration.calibrate` writes it; empty without.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = run / "calibration.json"
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sizes = {name: np.asarray(value, "float64").tolist() for name, value in values.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: holds no numbers by name ({error}); run `seaice-lab calibrate {run}` again"
        ) from None
    for name, size in sizes.items():
        if not _is_size(name, size):
            raise InputError(
                f"{path}: holds {size} as {name}, expected "
                f"{EXPECTED.get(name, 'a number of at least 0')}; run `seaice-lab calibrate {run}` "
                "again"
            )
    return sizes


def _is_size(name, value):
    """Whether a value of a calibration has the form and the range that its name requires."""
    values, limit = np.array(value), 1 if name == "noise_memory" else np.inf
    has_form = values.ndim <= (name == "noise_gain") and values.size > 0
    return has_form and bool(((values >= 0) & (values < limit)).all())


def resized(noise, gain, memory, source, remedy):
    """Noise with another gain and memory.

    Parameters
    ----------
    noise : Noise
    gain : float, sequence of float or None
        As in :class:`Noise`; None: that of ``noise``.
    memory : float or None
    source : str or Path
        File or argument to name in the message.
    remedy : str
        What to do about a wrong number of gains.

    Returns
    -------
    Noise

    Raises
    ------
    InputError
        If the number of gains is not that of the levels.
    """
    expected = len(noise.shapes)
    if gain is not None and np.ndim(gain) and len(gain) != expected:
        raise InputError(
            f"{source}: has {len(gain)} gains of the noise, expected one number or {expected}, one "
            f"for each level of the network, finest first; {remedy}"
        )
    values = {"gain": gain, "memory": memory}
    return noise._replace(**{name: value for name, value in values.items() if value is not None})


def settle_noise(surrogate, config, run):
    """Decide the noise and the perturbations of a forecast that its settings leave open.

    Parameters
    ----------
    surrogate : Surrogate
    config : ForecastConfig
    run : str or Path
        Run folder of the surrogate.

    Returns
    -------
    surrogate : Surrogate
        With the memory and gain of the settings; ``noise`` is None if the forecast has none.
    config : ForecastConfig
        With numbers as ``perturbation`` and ``member_bias``.

    Raises
    ------
    InputError
        If noise is asked of a deterministic network, noise or a bias of a single forecast, or the
        number of gains is wrong.
    """
    noise, asked = surrogate.noise, [config.noise_gain, config.noise_memory] != [None, None]
    if asked and noise is None and config.noise_gain != 0:
        raise InputError(
            f"{run}: is a deterministic network, expected one with noise; leave out "
            "noise_gain and noise_memory (perturbed starts make its ensemble), or train an "
            "ensemble network with loss crps"
        )
    for name in ("noise_gain", "member_bias"):
        if config.members == 1 and getattr(config, name):
            raise InputError(
                f"members: is 1, expected at least 2 with {name}, because one member has no "
                f"spread; raise members, or leave {name} out for a single forecast"
            )
    calibration = read_calibration(Path(run).expanduser())
    default = calibration.get("perturbation", 0.0 if noise else 0.1)
    if config.perturbation is None:
        if config.members > 1 and default and not calibration:
            progress.line(
                f"{run}: the size of the perturbations is {default}, which may be far too large or "
                f"too small; `seaice-lab calibrate {run}` fits it"
            )
        config = config.model_copy(update={"perturbation": default})
    if config.member_bias is None:
        config = config.model_copy(update={"member_bias": calibration.get("member_bias", 0.0)})
    if noise is not None:
        remedy = "give as many, or leave it out for the gain of the calibration"
        noise = resized(noise, config.noise_gain, config.noise_memory, "noise_gain", remedy)
        if config.members == 1 or not any(noise.gains):
            noise = None
    return surrogate._replace(noise=noise), config
