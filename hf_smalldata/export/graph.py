"""A trained network as files for other places, and such a file in place of a network.

ONNX is written by `torch.onnx` with dynamo: it takes every family here as transformers has it. The exporter by tracing
is retired, and Optimum's (0.1) needs transformers before 5.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hf_smalldata.errors import UserError, require

LOGITS = "logits"
FILES = {  # ONNX as transformers.js names them
    "fp32": "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_int8.onnx",
    "torch.export": "model.pt2",
    "safetensors fp16": "model.safetensors",
}


class _Positional(nn.Module):
    """A network whose inputs stand in a fixed order and whose one output is its logits."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs in the order of their names -> logits."""
        logits: Tensor = self.network(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


class OnnxNetwork(nn.Module):
    """An ONNX file that is asked as a network is: inputs by name, an output with `logits`."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        runtime: Any = require("onnxruntime", extra="export")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self.session.get_inputs()]
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # tells the device

    def forward(self, **inputs: Tensor) -> Any:
        """The inputs that the graph takes -> an output with `logits`."""
        given = {name: inputs[name].numpy() for name in self.names}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run([LOGITS], given)[0]))


class Program(nn.Module):
    """A file of `torch.export` that is asked as a network is."""

    def __init__(self, file: Path, names: list[str]) -> None:
        super().__init__()
        self.call, self.names = torch.export.load(file).module().forward, names  # its modes cannot be set: no submodule
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # tells the device

    def forward(self, **inputs: Tensor) -> Any:
        """The model's inputs -> an output with `logits`."""
        return SimpleNamespace(logits=self.call(*(inputs[name] for name in self.names)))


def write_onnx(network: nn.Module, batch: Mapping[str, Tensor], file: Path) -> None:
    """A network in full precision; the number of rows, and of tokens or samples, are free.

    Args:
        network: on the CPU.
        batch: two rows of at least two tokens, as the collator makes them: without labels.
        file: to write.
    """
    onnx: Any = require("onnx", extra="export")
    require("onnxscript", extra="export")
    names = list(batch)
    free = tuple(_free(tensor) for tensor in batch.values())
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            _Positional(network, names).eval(), tuple(batch.values()), file, input_names=names, output_names=[LOGITS],
            dynamo=True, dynamic_shapes=(free,), external_data=False, verbose=False,
        )  # fmt: skip
        model = onnx.load(file)
        for part in (model.graph, *model.functions):  # where in which file of this machine each node was made
            for node in part.node:
                node.ClearField("metadata_props")
                node.ClearField("doc_string")
        onnx.save(model, file)


def write_program(network: nn.Module, batch: Mapping[str, Tensor], file: Path) -> None:
    """A network as `torch.export` has it: for C++, ExecuTorch and AOTInductor; rows and tokens are free.

    Neither rows nor paths of this machine stand in it. Torch packs it with an empty list of examples, which is a
    pickle: it is not for the Hub.

    Args:
        network: on the CPU.
        batch: as for ONNX.
        file: to write.
    """
    free = tuple(_free(tensor) for tensor in batch.values())
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            _Positional(network, list(batch)).eval(), tuple(batch.values()), dynamic_shapes=(free,), strict=False
        )
        program.example_inputs = None  # rows of the user
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(program, file)


def write_half(source: Path, file: Path) -> None:
    """Weights and sums of 16 bits; inputs and logits stay as they are."""
    onnx: Any = require("onnx", extra="export")
    convert: Any = require("onnxruntime.transformers.float16", extra="export").convert_float_to_float16
    with _quiet():
        onnx.save(convert(onnx.load(source), keep_io_types=True), file)


def write_int8(source: Path, file: Path) -> None:
    """Weights of 8 bits; activations are scaled as they come (dynamic quantisation), so that no rows are needed.

    Convolutions stay in full precision, so that a network of convolutions is not made smaller: their scales need rows.
    """
    quantisation: Any = require("onnxruntime.quantization", extra="export")
    with _quiet():
        quantisation.quantize_dynamic(
            source, file, weight_type=quantisation.QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )  # fmt: skip


WRITERS = {"fp16": write_half, "int8": write_int8}


def _free(tensor: Tensor) -> dict[int, Any]:
    """Rows are free; in (B, T) the tokens or samples as well. What has more dimensions has one size in all rows."""
    sizes = (0, 1) if tensor.dim() == 2 else (0,)
    if tensor.dim() == 2 and tensor.shape[1] < 2:
        raise UserError("export needs a row of at least two tokens; pass such rows with --rows")
    return dict.fromkeys(sizes, torch.export.Dim.DYNAMIC)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters and converters say of their own workings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
