"""CUDA graphs: forward and backward pass of a training step, recorded once and then repeated.

A step at 128 x 128 has thousands of kernels, and a GPU finishes them sooner than the processor can
start them one by one. A recorded graph is started as a whole, by one call.
"""

from collections import Counter

import torch

# Steps of each form before its recording: they compile the network, choose GPU kernels and make
# constants.
WARM_UPS = 3


def with_gradients(losses, parameters, process, forms):
    """Make a function for the losses of a batch and their gradient; one GPU uses CUDA graphs.

    Parameters
    ----------
    losses : callable
        ``losses(batch, form)`` returns a dict of scalar tensors with the total as ``loss``. The
        same ``form``, such as a number of quarter turns, always does the same operations, with
        random numbers from the generator of the device.
    parameters : iterable of Parameter
        Changed in place only, as by an optimiser of torch.
    process : Process
    forms : sequence of int
        All forms of a step. For each of them a CUDA graph is recorded.

    Returns
    -------
    callable
        ``gradients(batch, form)`` returns the losses, detached from their computation, and leaves
        the gradient of the total in the parameters, which must not have one before. With several
        processes or without a GPU, it calls ``losses`` every time.
    """

    def gradients(batch, form):
        values = losses(batch, form)
        values["loss"].backward()
        return {name: value.detach() for name, value in values.items()}

    if process.device.type != "cuda" or process.world > 1:
        return gradients

    parameters, warm_ups, inputs, recorded = list(parameters), Counter(), {}, {}
    stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def record(batch, form):
        graph = torch.cuda.CUDAGraph()
        # The thread that makes the next batches goes on using the device.
        mode = {"stream": stream, "pool": pool, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, **mode):
            values = gradients(batch, form)
        return graph, values, [parameter.grad for parameter in parameters]

    def repeat(batch, form):
        shapes = tuple(fields.shape for fields in batch)
        # Record only after the warm-up of all forms: the memory would not hold a graph and a step
        # without a graph at once.
        if min(warm_ups[each, shapes] for each in forms) < WARM_UPS:
            warm_ups[form, shapes] += 1
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                values = gradients(batch, form)
            torch.cuda.current_stream().wait_stream(stream)
            return values
        if shapes not in inputs:
            inputs[shapes] = [torch.empty_like(fields, device=process.device) for fields in batch]
        for fixed, fields in zip(inputs[shapes], batch, strict=True):
            fixed.copy_(fields, non_blocking=True)
        if (form, shapes) not in recorded:
            recorded[form, shapes] = record(inputs[shapes], form)
        graph, values, grads = recorded[form, shapes]
        graph.replay()
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        return {name: value.clone() for name, value in values.items()}

    return repeat
