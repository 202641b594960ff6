"""A CUDA graph replaces TensorRT's many launches per batch by one: it is captured and replayed. Not run on a GPU.

A captured graph is valid for the shapes that it was captured with, and setting another shape on the context changes
what the graph relies on (TensorRT's documentation, "CUDA Graphs"). So only the graph of the current batch size is kept,
captured at the second call of that size in a row, because TensorRT finishes a new shape's set-up in the first.
TensorRT-RTX compiles kernels while it runs and captures by itself (its documentation, "Working with RTX CUDA Graphs").
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from edgepress.multilabel.errors import EngineUnavailableError


class GraphReplay:
    """Runs an engine on a stream; from the third call of a batch size in a row it only replays the graph.

    Args:
        cuda: calls a function of the CUDA runtime by name, and raises RuntimeError where its code is not success.
        cudart: the CUDA runtime.
        stream: the stream for all work; not the default stream, which cannot be captured.
        execute: enqueues the engine on the stream for the shape that the context has.
    """

    def __init__(
        self, cuda: Callable[..., tuple[Any, ...]], cudart: ModuleType, stream: Any, execute: Callable[[], None]
    ) -> None:
        self._cuda, self._stream, self._execute = cuda, stream, execute
        self._mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._batch = 0
        self._graph: Any = None

    def run(self, batch: int) -> None:
        """Enqueue the engine on the stream for a batch of this many pictures.

        Raises:
            EngineUnavailableError: the engine cannot be captured.
            RuntimeError: TensorRT or CUDA failed.
        """
        if batch != self._batch:
            self.close()
            self._execute()
            self._batch = batch
            return
        if self._graph is None:
            self._graph = self._captured()
        self._cuda("cudaGraphLaunch", self._graph, self._stream)

    def _captured(self) -> Any:
        graph: Any = None
        try:
            self._cuda("cudaStreamBeginCapture", self._stream, self._mode)
            try:
                self._execute()
            finally:
                # This happens also after a failure, because a stream that is left capturing runs nothing any more.
                (graph,) = self._cuda("cudaStreamEndCapture", self._stream)
            (replayable,) = self._cuda("cudaGraphInstantiate", graph, 0)
        except RuntimeError as error:
            first = error.__context__ or error  # the failure that made the capture fail
            raise EngineUnavailableError(
                f"no CUDA graph of this engine: {first}; compile it without cuda_graph"
            ) from error
        finally:
            if graph is not None:
                self._cuda("cudaGraphDestroy", graph)
        return replayable

    def close(self) -> None:
        """Free the graph; the next call runs without one."""
        graph, self._graph, self._batch = self._graph, None, 0
        if graph is not None:
            self._cuda("cudaGraphExecDestroy", graph)
