"""A generator that only draws, as fast as the machine can: 16-bit high resolutions and CUDA graphs around a generator.

A generator itself is pure and differentiable; what needs buffers of its own, or trades precision for time, is here.
The last four resolutions take most of the time and may run in 16 bits, as StyleGAN2-ADA's networks are trained to
(arXiv 2006.06676, appendix B); the skip image stays float32.  On a GPU a picture is some hundred kernels of a few
microseconds, so that starting them takes longer than running them: a CUDA graph, recorded once a batch size, starts
them all at once.
"""

from __future__ import annotations

import copy
from threading import Lock

import torch
from torch import Tensor

from stylegan2.generator import Deltas, Features, Generator, Low

RECORDED = 4  # batch sizes whose graphs are kept
WARM_UP = 3  # pictures before a recording: cuDNN chooses its algorithms, kernels are built


def lowered(generator: Generator, dtype: torch.dtype, resolution: int | None = None) -> Generator:
    """The same weights, drawn in `dtype` from `resolution` on (default: the last four); `generator` stays as it is.

    Pictures come out in float32.  bfloat16 has float32's range; float16 is more exact, and StyleGAN2's modulated
    convolutions are scaled so that they do not overflow in it.
    """
    low = Low(dtype, resolution or generator.resolution // 8)
    other = copy.copy(generator)
    if "synthesis" in other._modules:  # StyleGAN2: the synthesis network is a module of its own
        other._modules = {**other._modules, "synthesis": copy.copy(other.synthesis)}
        other.synthesis.low = low
    else:
        other.low = low
    return other


class Runner:
    """ws (B, num_ws, w_dim) -> images (B, 3, R, R), float32, without gradients; safe to call from several threads.

    dtype: torch.float16 or torch.bfloat16 for the last four resolutions; None: as the generator is.  graphs: record
    CUDA graphs; without a GPU, and for calls with deltas or features, pictures are drawn the ordinary way.
    """

    def __init__(self, generator: Generator, *, dtype: torch.dtype | None = None, graphs: bool = True) -> None:
        self.generator = generator if dtype is None else lowered(generator, dtype)
        self.graphs = graphs
        self._recorded: dict[tuple, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._done: dict[torch.device, torch.cuda.Event] = {}  # the last picture: buffers are free after it
        self._lock = Lock()

    @torch.no_grad()
    def __call__(self, ws: Tensor, deltas: Deltas | None = None, features: Features | None = None) -> Tensor:
        if deltas or features or not (self.graphs and ws.is_cuda):
            return self.generator.synthesis(ws, deltas, features)
        with self._lock:  # one set of buffers
            stream = torch.cuda.current_stream(ws.device)
            if ws.device in self._done:
                stream.wait_event(self._done[ws.device])
            key = (tuple(ws.shape), ws.dtype, ws.device)
            if key not in self._recorded:
                if len(self._recorded) == RECORDED:
                    del self._recorded[next(iter(self._recorded))]
                self._recorded[key] = self._record(ws)
            graph, inputs, images = self._recorded[key]
            inputs.copy_(ws)
            graph.replay()
            result = images.clone()
            self._done[ws.device] = stream.record_event()
            return result

    def _record(self, ws: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(ws.device):
            inputs = ws.clone()  # not an inference tensor, whoever records first
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.generator.synthesis(inputs)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                images = self.generator.synthesis(inputs)
            return graph, inputs, images
