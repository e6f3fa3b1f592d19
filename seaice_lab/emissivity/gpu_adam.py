"""Adam on a GPU: observations and maps are in its memory, and steps are captured as graphs.

The memory of a GPU is fast enough to update every cell of a year at every step, as published. But a
step consists of many small kernels, and to launch them one by one from the CPU takes longer than to
run them. Therefore STEPS_PER_GRAPH steps are captured once as a CUDA graph, which is then launched
as a whole (:func:`capture`).
"""

from functools import partial

import torch

from seaice_lab.compute import compiles
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.gradients import pack_parameters
from seaice_lab.emissivity.model import COST_TERMS, MAPS
from seaice_lab.emissivity.observations import Batch
from seaice_lab.errors import InputError
from seaice_lab.optimiser import BETA1, BETA2, EPSILON
from seaice_lab.torch_private import compile_graph

STEPS_PER_GRAPH = 8
# Memory of a training divided by that of its maps: values, gradient and two moments, the copies of
# these while a graph is captured, and intermediate results.
MEMORY_FACTOR = 12


class GpuAdam:
    """Adam as published, of all cells of the maps and of the other parameters of a model.

    Parameters
    ----------
    model : EmpiricalState
        On the device.
    observations : Observations
        They are copied to the device.
    config : FitConfig

    Attributes
    ----------
    values, gradients, moments : dict of Tensor
        Of the maps by name, and of the ``vector``. A captured graph reads and writes this memory,
        so that it is only changed in place.
    """

    def __init__(self, model, observations, config):
        self.model, self.config = model, config
        vector, self.evaluate = pack_parameters(model, config)
        device = vector.device
        columns = (observations.index, observations.scalars, observations.channels)
        self.columns = [torch.from_numpy(column).to(device) for column in columns]
        self.values = {name: getattr(model, name).detach() for name in MAPS} | {"vector": vector}
        self.gradients = {name: torch.zeros_like(part) for name, part in self.values.items()}
        self.moments = {
            name: torch.zeros(2, *part.shape, device=device) for name, part in self.values.items()
        }
        self.steps = torch.zeros((), device=device)
        self.updates = {}  # by name, one for each shape, so that each can be compiled
        self.strengths = self.graph = self.positions = None

    def state_dict(self):
        """Steps and moments."""
        return {"steps": self.steps, "moments": self.moments}

    def load_state_dict(self, state):
        """Continue from :meth:`state_dict`."""
        self.steps.copy_(state["steps"])
        for name, moments in self.moments.items():
            moments.copy_(state["moments"][name])

    def batches(self, order, firsts):
        """Positions of batches, several whole batches in a group where there are enough.

        Parameters
        ----------
        order : ndarray of int
            Positions of observations.
        firsts : sequence of int
            Where the batches begin in ``order``.

        Yields
        ------
        tuple of one Tensor of int64
            On the device; of STEPS_PER_GRAPH whole batches, or of one batch.
        """
        size, order = self.config.batch_size, torch.from_numpy(order).to(self.steps.device)
        for at in range(0, len(firsts), STEPS_PER_GRAPH):
            batches = [order[first : first + size] for first in firsts[at : at + STEPS_PER_GRAPH]]
            together = torch.cat(batches)
            if len(together) == STEPS_PER_GRAPH * size:
                batches = [together]
            yield from ((positions,) for positions in batches)

    @torch.no_grad()
    def step(self, group, strengths):
        """Take a step for each batch of a group.

        Parameters
        ----------
        group : tuple of one Tensor of int64 (observation,)
            Positions of whole batches, or of one that may be smaller. STEPS_PER_GRAPH whole batches
            on a GPU are one captured graph.
        strengths : Strengths
            Of the penalty in this epoch.

        Returns
        -------
        dict of scalar Tensor
            Means over the observations of the costs before each step, and ``gradient_norm``, that
            of the last step; a gradient that is not finite spoils all later ones.
        """
        (positions,) = group
        if self.strengths != strengths:  # they are constants in what has been captured
            self.updates.pop("sea_ice", None)
            self.strengths, self.graph = strengths, None
        if not positions.is_cuda or len(positions) != STEPS_PER_GRAPH * self.config.batch_size:
            costs = self._run_steps(positions)
        else:
            costs = self._replay(positions).clone()  # the next replay overwrites it
        norm = torch.linalg.vector_norm(self.gradients["vector"])
        return dict(zip(("loss", *COST_TERMS, "gradient_norm"), (*costs, norm), strict=True))

    def _replay(self, positions):
        """Run the captured graph for other positions."""
        if self.graph is None:
            self.positions = positions.clone()
            changed = [self.steps, *self.values.values(), *self.gradients.values()]
            changed += self.moments.values()
            self.graph = capture(lambda: self._run_steps(self.positions), changed)
        self.positions.copy_(positions)
        replay, costs = self.graph
        replay()
        return costs

    def _run_steps(self, positions):
        total = 0
        for batch_positions in positions.split(self.config.batch_size):
            total = total + len(batch_positions) * self._add_gradients(batch_positions)
            self._update()
        return total / len(positions)

    def _add_gradients(self, positions):
        """Costs of one batch, Tensor (term,); its gradients are added to those of the cells."""
        columns = (column.index_select(0, positions) for column in self.columns)
        batch = Batch(positions, *columns)
        days, cell = self.model.map_rows(batch.index)
        at_batch = self.model.map_values(batch, (days, cell))
        costs, (by_vector, by_days, by_properties) = self.evaluate(*at_batch, *batch[1:])
        by_cell, by_observation = by_properties.tensor_split([self.model.config.n_properties], 1)
        self.gradients["vector"].copy_(by_vector)
        self.gradients["sea_ice"].index_add_(0, days.flatten(), by_days.reshape(-1, 1))
        self.gradients["properties"].index_add_(0, cell, by_cell)
        self.gradients["observation_properties"].index_add_(0, positions, by_observation)
        return torch.stack(list(costs.values()))

    def _update(self):
        """Take one step with the gradients, and set those of the maps to zero."""
        # counted on the device, so that the graph counts too
        step = self.steps.add_(1).double()
        length = (1 - BETA2**step).sqrt() / (1 - BETA1**step) * self.config.learning_rate
        for name, values in self.values.items():
            if not values.numel():
                continue
            arguments = (values, *self.moments[name], self.gradients[name], length.float())
            if name not in self.updates:
                strengths = self.strengths if name == "sea_ice" else None
                self.updates[name] = partial(update, strengths=strengths, reset=name != "vector")
                if compiles(self.config.compile):
                    self.updates[name] = compile_graph(self.updates[name], arguments, "fake")
            self.updates[name](*arguments)


def update(w, m, v, gradient, length, strengths=None, reset=True):
    """Take a step of Adam in place.

    Parameters
    ----------
    w, m, v, gradient : Tensor
        Of the same shape.
    length : scalar Tensor
        Learning rate, corrected for the bias of m and v.
    strengths : Strengths, optional
        Of the penalty, if ``w`` are concentrations.
    reset : bool
        Set the gradient to zero afterwards, as gradients that are summed up need it.
    """
    g = gradient
    if strengths is not None:
        g = g + torch.func.grad(lambda values: penalty.cost(values, strengths).sum())(w)
    m.lerp_(g, 1 - BETA1)
    v.lerp_(g * g, 1 - BETA2)
    # as published, epsilon is added to the root of v before its bias is corrected
    w.sub_(length * m / (v.sqrt() + EPSILON))
    if strengths is not None and strengths.bounded:
        w.clamp_(0, 1)
    if reset:
        gradient.zero_()


def capture(function, changed):
    """Capture what a function without arguments does on a GPU as a CUDA graph.

    A graph holds the kernels that the function launches, with the addresses of the memory that they
    read and write, but no Python code and no numbers from the CPU. It is valid for as long as this
    memory stays where it is: inputs must be copied into the same tensors, and results are written
    to the same ones at every replay.

    Parameters
    ----------
    function : callable
        It runs twice before it is captured, because first calls allocate and compile.
    changed : list of Tensor
        What it changes. They have their old values afterwards.

    Returns
    -------
    replay : callable
        Runs the graph.
    result
        Of ``function``; every replay overwrites it.
    """
    before = [tensor.clone() for tensor in changed]
    # capturing needs a stream of its own, on which no earlier work is waiting
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    for tensor, value in zip(changed, before, strict=True):
        tensor.copy_(value)
    return graph.replay, result


def check_memory(free, observations, model):
    """Check that observations and maps fit into the free memory of a GPU.

    Parameters
    ----------
    free : float
        Bytes, from :func:`free_memory`.
    observations : Observations
    model : EmpiricalState

    Raises
    ------
    InputError
        If they do not fit.
    """
    columns = (observations.index, observations.scalars, observations.channels)
    columns = sum(column.nbytes for column in columns)
    maps = MEMORY_FACTOR * sum(getattr(model, name).nbytes for name in MAPS)
    if columns + maps > free:
        raise InputError(
            f"emissivity: the observations take {columns / 1e9:.2f} GB and their maps "
            f"{maps / 1e9:.2f} GB, the GPU has {free / 1e9:.2f} GB free; train fewer days, or on "
            "the processor (CUDA_VISIBLE_DEVICES= hides the GPU)"
        )


def free_memory(device):
    """Bytes that a training can use on a device; infinite where it is no GPU."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    # memory that torch keeps from an earlier training is free for this one
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
