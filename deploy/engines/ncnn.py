"""ncnn on a CPU, for boards and phones: one picture at a time, in float32 or INT8."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import PurePosixPath

import numpy as np

from edgepress.deploy.engines.base import Engine, Proof, by_precision, require, require_shape, require_threads, summary
from edgepress.deploy.engines.lifetime import tell_threads_stay
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForNcnn
from edgepress.multilabel.ncnn_layers import PRODUCTS, in_int8, layer_lines
from edgepress.multilabel.ncnn_network import OPTIONS, MissingLayerError, answer, network, picture_of

_NO_LAYERS = {"Input", "MemoryData", "Split"}


class NcnnEngine(Engine):
    """An ncnn bundle in one network, which computes one call at a time and in it one picture after the other.

    Its two files are read into memory, where they cannot change under it.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        super().__init__(bundle, device)
        if device != "cpu":
            raise InputError(f"device {device!r}: ncnn takes cpu")
        threads = require_threads(threads)
        require("ncnn", "ncnn")
        self._version = version("ncnn")
        # Its threads wait for each other by spinning, as OpenMP's do: where other processes want the cores as well, an
        # answer takes many times as long with two as with one.
        self._threads = threads or 1
        self._turn = threading.Lock()
        file = bundle.model_path
        graph, weights = bundle.read(bundle.manifest.model), bundle.read(_weights_of(bundle))
        try:
            height, width = picture_of(graph)
            lines = [line for line in layer_lines(graph) if line[0] not in _NO_LAYERS]
            require_shape(bundle, [None, height, width, 3], "uint8")
            self._network = network(graph, weights, self._threads)
            if self._threads > 1:  # OpenMP keeps them for the next engine
                tell_threads_stay("ncnn")
            # ncnn says nothing about the shape of an answer before there is one.
            count = answer(self._network, np.zeros((height, width, 3), np.uint8)).size
        except MissingLayerError as error:
            built = bundle.manifest.built_for
            recorded = built.version if isinstance(built, BuiltForNcnn) else "unknown"
            raise EngineUnavailableError(
                f"{file}: recorded: ncnn {recorded}; found: ncnn {self._version}, which has no layer {error}; install "
                "a newer ncnn, or take another engine"
            ) from error
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{file}: ncnn cannot load it: {error}") from error
        self._layers = by_precision("int8" if in_int8(line) else "f32" for line in lines)
        self._products = by_precision("int8" if in_int8(line) else "f32" for line in lines if line[0] in PRODUCTS)
        if count != len(self.labels):
            raise InputError(f"{file}: gives {count} logits; by its manifest {len(self.labels)}")

    @property
    def runtime_version(self) -> str:
        return f"ncnn {self._version}"

    def _proof(self) -> Proof:
        options = {name: str(getattr(self._network.opt, name, False)).lower() for name in OPTIONS}
        return Proof(
            runtime="ncnn",
            version=self._version,
            provider="CPU",
            precision=summary(self._products),
            products=self._products,
            layers=self._layers,
            source="the layers of ncnn's network, and its options, none of which allows half precision",
            settings={"threads": str(self._network.opt.num_threads), **options},
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._turn:
            return np.stack([answer(self._network, image) for image in images])

    def _release(self) -> None:
        del self._network


def _weights_of(bundle: Bundle) -> str:
    """
    Raises:
        InputError: the bundle has no weights beside its graph.
    """
    name = str(PurePosixPath(bundle.manifest.model).with_suffix(".bin"))
    if name not in bundle.manifest.files:
        raise InputError(f"{bundle.path}: {name} is not among the bundle's files; make the bundle again")
    return name
