"""`hf-smalldata export`: a Run's model for other places. Heavy libraries are imported once it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_smalldata.console import session
from hf_smalldata.errors import UserError


def export(
    run: Annotated[Path, typer.Argument(help="A Run's folder.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="For onnxruntime and transformers.js.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="ONNX of half the size as well; for GPUs and browsers.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX of a quarter of the size as well; for CPUs.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="A program of torch.export, for C++ and devices.")] = False,
    safetensors_fp16: Annotated[bool, typer.Option("--safetensors-fp16", help="The same transformers model, its "
                                "weights in half the size.")] = False,
    rows: Annotated[str | None, typer.Option(help="A table or folder of rows to compare on, without their labels. "
                    "[default: the Run's test rows]")] = None,
    out: Annotated[Path | None, typer.Option(help="[default: of ONNX alone RUN/onnx, which `publish` takes along; else "
                   "RUN/exported]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """Write files for other places, labels and preprocessing beside them, and measure each beside the model itself."""
    if (fp16 or int8) and not onnx:
        raise UserError(f"{'--fp16' if fp16 else '--int8'} is of ONNX; add --onnx, or ask for --safetensors-fp16")
    wanted = {"fp32": onnx, "fp16": fp16, "int8": int8, "torch.export": torch, "safetensors fp16": safetensors_fp16}
    kinds = [kind for kind, asked in wanted.items() if asked]
    if not kinds:
        raise UserError("say into what the model is exported: --onnx, --torch or --safetensors-fp16")
    with session(quiet=True) as (main, console):
        from hf_smalldata.export.compare import Subject, check_out
        from hf_smalldata.export.compare import export as write
        from hf_smalldata.prediction import read_inputs
        from hf_smalldata.run import Run
        from hf_smalldata.whole import alone

        if not main:
            return
        opened = Run.open(run)
        place = (out or opened.folder / ("exported" if torch or safetensors_fp16 else "onnx")).expanduser().resolve()
        with alone(place):
            check_out(place, overwrite)
            subject = Subject.of(opened, None if rows is None else read_inputs(opened, [rows])[1])
            told = write(subject, place, kinds)
        if as_json:
            print(json.dumps({"out": str(place), **told}))
            return
        console.print(_table(told))
        console.print(f"written: {place}", markup=False, highlight=False, soft_wrap=True)


def _table(told: Mapping[str, Any]) -> Any:
    """Each file beside the model itself."""
    from rich.table import Table

    from hf_smalldata.evaluation.report import TITLES
    from hf_smalldata.report.formats import NOTHING, kilobytes, percent

    main = told["main_metric"]
    caption = (
        f"{told['rows']} rows; latency one row at a time, threads: {told['threads']}; torch is the Run's own model"
    )
    table = Table(caption=caption, caption_justify="left")
    titles = [
        "",
        "size",
        "ms a row",
        "largest difference",
        "same answer",
        *([TITLES[main]] if told["labelled"] else []),
    ]
    for title in titles:
        table.add_column(title, justify="right" if title else "left")
    for line in told["models"]:
        more = [f"{line[main]:.3f}"] if told["labelled"] else []
        same = NOTHING if line["same_answer"] is None else percent(line["same_answer"])
        table.add_row(line["model"], kilobytes(line["bytes"]), f"{line['milliseconds_a_row']:.2f}",
                      f"{line['largest_difference']:.1e}", same, *more)  # fmt: skip
    return table
