"""Training on a GPU: observations and maps live in its memory, and steps are graphs captured once.

The memory of a GPU is fast enough to move every cell of a year at every step, as published. What
would take longer is to start the many small pieces of a step one by one from the processor: some
steps together are recorded once, and then run whole.
"""

from functools import partial

import torch

from seaice_lab.compute import compiles
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.model import MAPS
from seaice_lab.emissivity.observations import Batch
from seaice_lab.errors import InputError
from seaice_lab.optimiser import BETA1, BETA2, EPSILON
from seaice_lab.torch_private import compile_graph

TOGETHER = 8  # steps in one graph
COPIES = 12  # of a map: values, gradient, two moments, the same put by while capturing, arithmetic


class Resident:
    """The observations on a device, and the cost of some of them with its gradient.

    Parameters
    ----------
    state : EmpiricalState
        On the device, its maps plain parameters.
    vector : torch.nn.Parameter
        What is trained beside the maps (:func:`~seaice_lab.emissivity.gradients.one_vector`).
    differentiated : callable
        From :func:`~seaice_lab.emissivity.gradients.differentiate`.
    observations : Observations

    Attributes
    ----------
    gradients : dict of Tensor
        Of the maps by name, and of the ``vector``.
    """

    def __init__(self, state, vector, differentiated, observations):
        self.state, self.vector, self.differentiated = state, vector, differentiated
        columns = (observations.index, observations.scalars, observations.channels)
        maps = {name: getattr(state, name) for name in MAPS}
        self.columns = [torch.from_numpy(column).to(vector.device) for column in columns]
        self.gradients = {name: torch.zeros_like(part) for name, part in maps.items()}
        self.gradients["vector"] = vector.grad = torch.zeros_like(vector)

    def batch(self, positions):
        """The Batch of observations at some positions, a Tensor of int64."""
        return Batch(positions, *(column.index_select(0, positions) for column in self.columns))

    def costs(self, positions):
        """Total cost of some observations and its terms, Tensor (term,); leaves the gradients."""
        part = self.batch(positions)
        days, cell = self.state.rows(part.index)
        seen = self.state.look_up(part, (days, cell))
        total, terms, (by_days, by_properties) = self.differentiated(*seen, *part[1:])
        # a graph writes to memory of its own: who looks at the gradient must find it there
        self.gradients["vector"].copy_(self.vector.grad)
        self.vector.grad = self.gradients["vector"]
        of_cells = by_properties[:, : self.state.config.n_properties]
        alone = by_properties[:, self.state.config.n_properties :]
        self.gradients["sea_ice"].index_add_(0, days.flatten(), by_days.reshape(-1, 1))
        self.gradients["properties"].index_add_(0, cell, of_cells)
        self.gradients["observation_properties"].index_add_(0, positions, alone)
        return torch.stack([total, *terms.values()])


class ResidentAdam(torch.optim.Optimizer):
    """Adam as published of the maps and the vector of a Resident.

    Parameters
    ----------
    resident : Resident
    learning_rate : float
    batch : int
        Observations a step.
    compiled : "auto", "always" or "never"
        As in FitConfig: whether the arithmetic of each is made one piece.
    """

    def __init__(self, resident, learning_rate, batch, compiled):
        vector, state = resident.vector, resident.state
        super().__init__([vector], {"lr": learning_rate})
        self.resident, self.batch = resident, batch
        self.strengths, self.captured, self.positions = None, None, None
        self.parts = {name: getattr(state, name).detach() for name in MAPS}
        self.parts = {name: part for name, part in self.parts.items() if part.numel()}
        self.parts["vector"] = vector.detach()
        self.state[vector] = {"steps": torch.zeros((), device=vector.device)}
        for name, part in self.parts.items():
            self.state[vector][name] = torch.zeros(2, *part.shape, device=vector.device)
        self.compile_it, self.moves = compiles(compiled), {}

    def _take_step(self):
        """Take one step with the gradients of the Resident; those of the maps are zero after it."""
        moments = self.state[self.resident.vector]
        taken = moments["steps"].add_(1).double()
        alpha = (1 - BETA2**taken).sqrt() / (1 - BETA1**taken) * self.defaults["lr"]
        for name, values in self.parts.items():
            arguments = (values, *moments[name], self.resident.gradients[name], alpha.float())
            if name not in self.moves:
                strengths = self.strengths if name == "sea_ice" else None
                self.moves[name] = partial(move, strengths=strengths, summed=name != "vector")
                if self.compile_it:
                    self.moves[name] = compile_graph(self.moves[name], arguments, "fake")
            self.moves[name](*arguments)

    @torch.no_grad()
    def several(self, positions):
        """Take a step for each batch of observations.

        Parameters
        ----------
        positions : Tensor of int64 (observation,)
            Whole batches, of which only the last may be shorter; TOGETHER of them are one graph.

        Returns
        -------
        Tensor (term,)
            Means over the observations of the cost before each step, and of its terms.
        """
        strengths = self.resident.state.penalty_strengths()
        if self.strengths != strengths:  # they may change from epoch to epoch
            self.moves.pop("sea_ice", None)
            self.captured, self.strengths = None, strengths
        if not positions.is_cuda or len(positions) != TOGETHER * self.batch:
            return self._several(positions)
        if self.captured is None:
            self.positions = positions.clone()
            kept = [*self.parts.values(), *self.state[self.resident.vector].values(),
                    *self.resident.gradients.values()]  # fmt: skip
            self.captured = capture(lambda: self._several(self.positions), kept)
        self.positions.copy_(positions)
        again, costs = self.captured
        again()
        return costs.clone()

    def _several(self, positions):
        total = 0
        for part in positions.split(self.batch):
            total = total + len(part) * self.resident.costs(part)
            self._take_step()
        return total / len(positions)


def grouped(order, firsts, size, together=TOGETHER):
    """Batches for a ResidentAdam: some together in one, as far as they are whole.

    Parameters
    ----------
    order : Tensor of int64
        Positions of observations.
    firsts : sequence of int
        Where the batches begin in ``order``.
    size : int
    together : int

    Yields
    ------
    tuple of one Tensor
    """
    for at in range(0, len(firsts), together):
        parts = [order[first : first + size] for first in firsts[at : at + together]]
        one = torch.cat(parts)
        yield from [(one,)] if len(one) == together * size else ((part,) for part in parts)


def move(w, m, v, gradient, alpha, strengths=None, summed=True):
    """Take a step of Adam in place, and set a gradient that is ``summed`` up to zero.

    ``strengths`` are those of the penalty, if ``w`` are concentrations.
    """
    g = gradient
    if strengths is not None:
        g = g + torch.func.grad(lambda values: penalty.cost(values, strengths).sum())(w)
    m.lerp_(g, 1 - BETA1)
    v.lerp_(g * g, 1 - BETA2)
    w.sub_(alpha * m / (v.sqrt() + EPSILON))
    if strengths is not None and strengths.bounded:
        w.clamp_(0, 1)
    if summed:
        gradient.zero_()


def capture(function, kept):
    """Record what a function without arguments does on a GPU.

    Parameters
    ----------
    function : callable
        Runs twice before it is recorded, so that everything it needs is there.
    kept : iterable of Tensor
        What it changes; they come out as they were.

    Returns
    -------
    again : callable
        Does it again, on the same memory.
    result
        Of ``function``; written anew each time.
    """
    before = [(one, one.clone()) for one in kept]
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        function()
        function()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    for one, value in before:
        one.copy_(value)
    return graph.replay, result


def check_memory(device, observations, state):
    """Refuse observations and maps that the free memory of a GPU does not hold.

    Parameters
    ----------
    device : torch.device
    observations : Observations
    state : EmpiricalState
        Not yet on the device.
    """
    if device.type != "cuda":
        return
    columns = (observations.index, observations.scalars, observations.channels)
    columns = sum(column.nbytes for column in columns)
    maps = COPIES * sum(getattr(state, name).nbytes for name in MAPS)
    free, _ = torch.cuda.mem_get_info(device)
    # what torch keeps of an earlier training is free for this one
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if columns + maps > free:
        raise InputError(
            f"emissivity: the observations take {columns / 1e9:.2f} GB and their maps "
            f"{maps / 1e9:.2f} GB, the GPU has {free / 1e9:.2f} GB free; train fewer days, or on "
            "the processor (CUDA_VISIBLE_DEVICES= hides the GPU)"
        )
