"""The trained emissivity model alone: a small coefficient file that needs no observations."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from seaice_lab import files, names, runs
from seaice_lab.emissivity.networks import build_network
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG
from seaice_lab.errors import InputError

SAME_GHZ = 0.5  # frequencies closer than this are the same channel of a linear model


class EmissivityModel(nn.Module):
    """Emissivity of sea ice from skin temperature and empirical properties.

    Parameters
    ----------
    network : Module
        One of :mod:`seaice_lab.emissivity.networks`, trained.
    about : dict
        ``network`` (its name), ``n_properties``, ``layers``, ``width``, ``zenith_input``,
        ``nadir``, ``channels``, ``frequency_ghz`` and ``vertical`` of the channels.
    """

    def __init__(self, network, about):
        super().__init__()
        self.network, self.about = network.eval(), about

    @classmethod
    def of(cls, model, observations):
        """The emissivity model inside a trained EmpiricalState."""
        config, seen_by = model.config, observations.instruments
        about = {
            "network": config.network, "n_properties": model.network_properties,
            "layers": config.layers, "width": config.width,
            "zenith_input": int(config.zenith_input), "nadir": int(config.nadir),
            "channels": list(seen_by.channels),
            "frequency_ghz": seen_by.frequency_ghz[0].tolist(),
            "vertical": seen_by.vertical.tolist(),
        }  # fmt: skip
        return cls(model.network, about)

    @classmethod
    def load(cls, path):
        """Read a coefficient file.

        Raises
        ------
        InputError
            If it cannot be read or is no such file.
        """
        try:
            with xr.open_dataset(path) as dataset:
                file = dataset.load()
            about = {
                name: file.attrs[name]
                for name in ("network", "n_properties", "layers", "width", "zenith_input", "nadir")
            }
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}: is no readable coefficient file ({error}); make one with `seaice-lab "
                "emissivity export`"
            ) from None
        about |= {"channels": file.channel_name.values.tolist(),
                  "frequency_ghz": file.frequency.values.tolist(),
                  "vertical": file.vertical.values.tolist()}  # fmt: skip
        network = build_network(
            about["network"], int(about["n_properties"]), len(about["channels"]),
            int(about["layers"]), int(about["width"]), bool(about["zenith_input"]),
            bool(about["nadir"]),
        )  # fmt: skip
        network.load_state_dict(
            {name: torch.from_numpy(file[name.replace(".", "_")].values)
             for name in network.state_dict()}
        )  # fmt: skip
        return cls(network, about)

    def save(self, path):
        """Write the coefficient file; returns its path."""
        content = {
            "channel_name": ("channel", self.about["channels"]),
            "frequency": ("channel", self.about["frequency_ghz"], {"units": "GHz"}),
            "vertical": ("channel", self.about["vertical"],
                         {"units": "1", "long_name": "1 for vertical polarisation"}),
        }  # fmt: skip
        for name, value in self.network.state_dict().items():
            name = name.replace(".", "_")
            dims = [f"{name}_{axis}" for axis in range(value.ndim)]
            content[name] = (dims, value.numpy(), {"units": "1"})
        attrs = {key: self.about[key] for key in self.about if np.isscalar(self.about[key])}
        attrs |= {
            "Conventions": names.CONVENTIONS, "title": "Emissivity model of sea ice",
            "source": "seaice_lab; method of Geer (2024), doi 10.1029/2023MS004080",
            "history": f"{runs.now()} seaice-lab emissivity export",
        }  # fmt: skip
        files.write_netcdf(path, xr.Dataset(content, attrs=attrs))
        return Path(path)

    def forward(self, tsfc, properties, frequency, vertical, zenith=None):
        """Emissivity.

        Parameters
        ----------
        tsfc : Tensor (n,)
            Skin temperature, K.
        properties : Tensor (n, property)
        frequency : Tensor (channel,)
            GHz. The linear and the sigmoid model know those of their own channels only; channels
            that share a frequency and a polarisation are told apart by :meth:`of_channels`.
        vertical : Tensor (channel,)
            Share of vertical polarisation: 1 for a vertical, 0 for a horizontal channel.
        zenith : Tensor (n,), optional
            Degrees; 55 without it.

        Returns
        -------
        Tensor (n, channel)
        """
        made = self._of_network(tsfc, properties, frequency, vertical, zenith)
        if self.about["network"] == "frequency" or torch.compiler.is_exporting():
            return made
        return made[:, [self.channel_at(f, v) for f, v in
                        zip(frequency.tolist(), vertical.tolist(), strict=True)]]  # fmt: skip

    def of_channels(self, tsfc, properties, channels, zenith=None):
        """Emissivity of channels of the model, by name.

        Parameters
        ----------
        tsfc, properties, zenith : Tensor
            As in :meth:`forward`.
        channels : sequence of str
            Such as "183pm3h", out of ``about["channels"]``.

        Returns
        -------
        Tensor (n, channel)
        """
        known = self.about["channels"]
        for name in channels:
            if name not in known:
                raise InputError(
                    f"unknown channel {name!r}; the emissivity model knows {', '.join(known)}"
                )
        frequency, vertical = self._own_channels()
        made = self._of_network(tsfc, properties, frequency, vertical, zenith)
        return made[:, [known.index(name) for name in channels]]

    def _of_network(self, tsfc, properties, frequency, vertical, zenith):
        zenith = torch.full_like(tsfc, CONICAL_ZENITH_DEG) if zenith is None else zenith
        return self.network(
            skin_temperature_index(tsfc)[:, None], properties, frequency[None], vertical[None],
            zenith[:, None],
        )  # fmt: skip

    def _own_channels(self):
        return (torch.tensor(self.about[name]).float() for name in ("frequency_ghz", "vertical"))

    def channel_at(self, frequency_ghz, vertical):
        """Place of a channel, by frequency and polarisation."""
        own = zip(self.about["frequency_ghz"], self.about["vertical"], strict=True)
        places = [place for place, (f, v) in enumerate(own)
                  if abs(f - frequency_ghz) < SAME_GHZ and v == vertical]  # fmt: skip
        if len(places) == 1:
            return places[0]
        known = self.about["channels"]
        where = f"{frequency_ghz:g} GHz, {'vertical' if vertical else 'horizontal'}"
        if places:
            raise InputError(
                f"{where}: is {' and '.join(known[place] for place in places)}; choose by name "
                "with of_channels"
            )
        raise InputError(
            f"{where}: a {self.about['network']} emissivity model knows its own channels only "
            f"({', '.join(known)}); train network frequency for others"
        )

    def export(self, path):
        """Write the model for ``torch.export.load``: any number of points and channels.

        An exported linear or sigmoid model gives all its channels, in their order. The program
        takes ``tsfc, properties, frequency, vertical`` and, where the network uses it (zenith_input
        or nadir), ``zenith``.

        Returns
        -------
        Path
        """
        points, channels = torch.export.Dim("point", min=2), torch.export.Dim("channel", min=2)
        example = (
            torch.full((3,), 260.0), torch.zeros(3, int(self.about["n_properties"])),
            torch.tensor([19.0, 37.0, 89.0]), torch.tensor([1.0, 0.0, 1.0]),
        )  # fmt: skip
        if self.about["network"] != "frequency":
            channels = None
            example = (*example[:2], *self._own_channels())
        of_channel = {0: channels} if channels else {}
        shapes = ({0: points}, {0: points}, of_channel, of_channel)
        if self.about["zenith_input"] or self.about["nadir"]:
            example = (*example, torch.tensor([0.0, 30.0, CONICAL_ZENITH_DEG]))
            shapes = (*shapes, {0: points})
        program = torch.export.export(self.eval(), example, dynamic_shapes=shapes)
        with files.replacing(path) as temporary:
            torch.export.save(program, temporary)
        return Path(path)
