"""The trained emissivity model only: a small coefficient file that needs no observations."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from seaice_lab import files, metadata
from seaice_lab.emissivity.networks import build_network
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG
from seaice_lab.errors import InputError

# Frequencies that differ by less are the same channel of a linear or sigmoid model.
FREQUENCY_TOLERANCE_GHZ = 0.5
# Arguments of build_network, which are integer attributes of the coefficient file.
NETWORK_OPTIONS = ("n_properties", "layers", "width", "zenith_input", "nadir")


class EmissivityModel(nn.Module):
    """Emissivity of sea ice from skin temperature and empirical properties.

    Parameters
    ----------
    network : Module
        A trained network of :mod:`seaice_lab.emissivity.networks`.
    settings : dict
        ``network`` (its name), ``n_properties``, ``layers``, ``width``, ``zenith_input`` and
        ``nadir``; ``channels`` (list of str), and ``frequency_ghz`` and ``vertical`` of the
        channels (ndarray).
    """

    def __init__(self, network, settings):
        super().__init__()
        self.network, self.settings = network.eval(), settings

    @classmethod
    def from_state(cls, model, observations):
        """Take the emissivity model out of a trained state.

        Parameters
        ----------
        model : EmpiricalState
        observations : Observations

        Returns
        -------
        EmissivityModel
        """
        instruments = observations.instruments
        settings = model.config.model_dump(include={"network", *NETWORK_OPTIONS}) | {
            "n_properties": model.network_properties,
            "channels": list(instruments.channels),
            "frequency_ghz": instruments.frequency_ghz[0],
            "vertical": instruments.vertical,
        }
        return cls(model.network, settings)

    @classmethod
    def load(cls, path):
        """Read a coefficient file.

        Raises
        ------
        InputError
            If the file cannot be read or is not a coefficient file.
        """
        try:
            dataset = xr.load_dataset(path)
            name = dataset.attrs["network"]
            options = {option: int(dataset.attrs[option]) for option in NETWORK_OPTIONS}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}: is no readable coefficient file ({error}); write one with `seaice-lab "
                "emissivity export`"
            ) from None
        network = build_network(name, n_channels=dataset.sizes["channel"], **options)
        weights = {
            key: torch.from_numpy(dataset[key.replace(".", "_")].values)
            for key in network.state_dict()
        }
        network.load_state_dict(weights)
        settings = {
            "network": name,
            **options,
            "channels": dataset.channel_name.values.tolist(),
            "frequency_ghz": dataset.frequency.values,
            "vertical": dataset.vertical.values,
        }
        return cls(network, settings)

    def save(self, path):
        """Write the coefficient file; returns its path."""
        polarisation = {"units": "1", "long_name": "1 for vertical polarisation"}
        variables = {
            "channel_name": ("channel", self.settings["channels"]),
            "frequency": ("channel", self.settings["frequency_ghz"], {"units": "GHz"}),
            "vertical": ("channel", self.settings["vertical"], polarisation),
        }
        for key, value in self.network.state_dict().items():
            name = key.replace(".", "_")  # in the file
            dimensions = [f"{name}_{axis}" for axis in range(value.ndim)]
            variables[name] = (dimensions, value.numpy(), {"units": "1"})
        source = "seaice_lab; method of Geer (2024), doi 10.1029/2023MS004080"
        title, command = "Emissivity model of sea ice", "emissivity export"
        attributes = metadata.file_attributes(title, source, command)
        attributes["network"] = self.settings["network"]
        attributes |= {option: int(self.settings[option]) for option in NETWORK_OPTIONS}
        files.write_netcdf(path, xr.Dataset(variables, attrs=attributes))
        return Path(path)

    def forward(self, tsfc, properties, frequency, vertical, zenith=None):
        """Compute the emissivity.

        Parameters
        ----------
        tsfc : Tensor (n,)
            Skin temperature, K.
        properties : Tensor (n, property)
        frequency : Tensor (channel,)
            GHz. A linear or sigmoid model has its own channels only; use :meth:`for_channels` for
            channels that share a frequency and a polarisation.
        vertical : Tensor (channel,)
            Share of vertical polarisation: 1 for a vertical, 0 for a horizontal channel.
        zenith : Tensor (n,), optional
            Degrees; 55 by default.

        Returns
        -------
        Tensor (n, channel)
        """
        emissivity = self._apply_network(tsfc, properties, frequency, vertical, zenith)
        if self.settings["network"] == "frequency" or torch.compiler.is_exporting():
            return emissivity
        channels = zip(frequency.tolist(), vertical.tolist(), strict=True)
        return emissivity[:, [self._find_channel(*channel) for channel in channels]]

    def for_channels(self, tsfc, properties, channels, zenith=None):
        """Compute the emissivity for channels of the model, given by name.

        Parameters
        ----------
        tsfc, properties, zenith : Tensor
            As in :meth:`forward`.
        channels : sequence of str
            Such as "183pm3h", out of ``settings["channels"]``.

        Returns
        -------
        Tensor (n, channel)

        Raises
        ------
        InputError
            If the model has no such channel.
        """
        available = self.settings["channels"]
        for name in channels:
            if name not in available:
                raise InputError(f"unknown channel {name!r}; choose from {', '.join(available)}")
        emissivity = self._apply_network(tsfc, properties, *self._channel_tensors(), zenith)
        return emissivity[:, [available.index(name) for name in channels]]

    def export(self, path):
        """Write the model for ``torch.export.load``: any number of points and channels.

        An exported linear or sigmoid model computes all its channels, in their order. The program
        takes ``tsfc, properties, frequency, vertical`` and, if the network uses it (zenith_input or
        nadir), ``zenith``.

        Returns
        -------
        Path
        """
        by_point, by_channel = {0: torch.export.Dim("point", min=2)}, {}
        channels = self._channel_tensors()
        if self.settings["network"] == "frequency":
            channels = torch.tensor([19.0, 37.0, 89.0]), torch.tensor([1.0, 0.0, 1.0])
            by_channel = {0: torch.export.Dim("channel", min=2)}
        properties = torch.zeros(3, self.settings["n_properties"])
        arguments = (torch.full((3,), 260.0), properties, *channels)
        shapes = (by_point, by_point, by_channel, by_channel)
        if self.settings["zenith_input"] or self.settings["nadir"]:
            arguments += (torch.tensor([0.0, 30.0, CONICAL_ZENITH_DEG]),)
            shapes += (by_point,)
        program = torch.export.export(self.eval(), arguments, dynamic_shapes=shapes)
        with files.replacing(path) as temporary:
            torch.export.save(program, temporary)
        return Path(path)

    def _apply_network(self, tsfc, properties, frequency, vertical, zenith):
        zenith = torch.full_like(tsfc, CONICAL_ZENITH_DEG) if zenith is None else zenith
        skin_index = skin_temperature_index(tsfc)[:, None]
        return self.network(
            skin_index, properties, frequency[None], vertical[None], zenith[:, None]
        )

    def _channel_tensors(self):
        """Frequency and share of vertical polarisation of all channels."""
        return [torch.tensor(self.settings[name]).float() for name in ("frequency_ghz", "vertical")]

    def _find_channel(self, frequency_ghz, vertical):
        """Position of the channel with a frequency and polarisation."""
        close = np.abs(self.settings["frequency_ghz"] - frequency_ghz) < FREQUENCY_TOLERANCE_GHZ
        positions = np.flatnonzero(close & (self.settings["vertical"] == vertical))
        if len(positions) == 1:
            return positions[0]
        channels = self.settings["channels"]
        matching = " and ".join(channels[position] for position in positions) or "no channel"
        raise InputError(
            f"{frequency_ghz:g} GHz, {'vertical' if vertical else 'horizontal'}: is {matching} of "
            f"the model, which has its own channels only ({', '.join(channels)}); choose by name "
            "with for_channels, or train network frequency for other frequencies"
        )
