"""Images: files of any kind that PIL reads, and DICOM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value, concatenate_datasets

from hf_smalldata.data import dicom, images
from hf_smalldata.data.modalities.files import FilesModality
from hf_smalldata.data.modality import Read
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_images import similar_images
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table

SMALL = 32  # pixels a side, below which many drawings look alike to a perceptual hash
SURE = 0.92  # similarity from which even those are copies


class Images(FilesModality):
    """Rows with `image`, and `window` (centre and width of grey values) where `data.window` is given."""

    kind = "image"
    feature = Image(decode=False)
    input_names = (("image", "img", "picture"), ("image_path", "file_name", "filename", "image_file", "path", "file"))
    a_file_each = "images"

    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """Columns image and window."""
        found, changed = super().inputs(table, column, pair, rows, spec)
        return _with_window(found, spec), changed

    def encoded(self, value: Any) -> Mapping[str, Any]:
        """Paths as they are; PIL images and arrays as the bytes of a png."""
        if isinstance(value, (str, Path)):
            return {"bytes": None, "path": str(value)}
        found: Mapping[str, Any] = Image().encode_example(value)
        return found

    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Paths, bytes or PIL images."""
        return _with_window(super().given(values, spec), spec)

    def check(self, rows: Dataset, where: str) -> list[str]:
        """Every image opens."""
        images.check_images(rows["image"], rows["id"], where)
        return []

    def groups(self, rows: Dataset) -> list[str] | None:
        """The patient of each DICOM file."""
        return dicom.patient_groups(rows["image"])

    def accepts(self, file: Path) -> bool:
        """By its ending, or a DICOM file of any name."""
        return images.accepts(file)

    def similar(self, rows: Dataset) -> list[Pair]:
        """By perceptual hash."""
        small = set()

        def opened() -> Iterator[Any]:
            for at, row in enumerate(rows):
                image = self.shown(row)
                if min(image.size) < SMALL:
                    small.add(at)
                yield image

        return [pair for pair in similar_images(opened())
                if pair.similarity >= SURE or not small & {pair.first, pair.second}]  # fmt: skip

    def shown(self, row: Mapping[str, Any]) -> Any:
        """The decoded image."""
        return images.open_image(row["image"], row.get("window"))


def _with_window(rows: Dataset, spec: DataSpec) -> Dataset:
    if spec.window is None:
        return rows
    column = {"window": [[spec.window.center, spec.window.width]] * len(rows)}
    feature = Features({"window": List(Value("float64"))})
    return concatenate_datasets([rows, Dataset.from_dict(column, features=feature)], axis=1)
