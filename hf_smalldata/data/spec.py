"""The `data:` section of a recipe: where the rows come from, how they are read, split and drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

# The first three are transformers' own; transformers has no name for the fourth, a class for each token.
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression", "token_classification"]


class Window(BaseModel):
    """Which grey values are shown: `center` - `width` / 2 becomes black, `center` + `width` / 2 white."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    center: float
    width: float = Field(gt=0)


class DataSpec(BaseModel):
    """Rows and how few of them to learn from. A source is a Hub id, a file, a folder or a `bundled/` name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None  # one source for all splits
    config: str | None = None  # the Hub dataset's configuration
    revision: str | None = None  # the Hub dataset's revision
    train: str | None = None  # a source for this split alone
    validation: str | None = None
    test: str | None = None
    input_column: str | None = None  # guessed by name and content when not given
    text_pair_column: str | None = None  # second text of a sentence pair
    label_column: str | tuple[str, ...] | None = None  # several 0/1 columns mean multi-label
    label_separator: str | None = None  # 'a;b' in one cell means multi-label
    problem_type: ProblemType | None = None  # as in a transformers config; guessed from the labels when not given
    group: str | None = None  # rows that share this column's value stay in one split
    keep_together: Literal["near", "equal"] = "near"  # inputs that stay in one split: near-duplicates, or equal ones
    delimiter: str | None = None  # of csv files; found when not given
    encoding: str = "utf-8"
    labels_per_class: PositiveInt | None = None  # draw this many training rows a class
    fraction: float | None = Field(default=None, gt=0, le=1)  # or this share of the training rows
    test_fraction: float = Field(default=0.2, gt=0, lt=1)  # held out when the source has no test rows
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)  # held out of the training rows
    split_seed: int = 0  # of the held-out rows; `seeds` draw the training rows
    tag_scheme: Literal["IOB1", "IOB2", "BILOU", "IOBES", "IO"] | None = None  # of token tags; found when not given
    broken_tags: Literal["refuse", "repair"] = "refuse"  # tags against their scheme, spans that cut a word
    alphabet: Literal["dna", "rna", "protein"] | None = None  # of sequences; found when not given
    window: Window | None = None  # of medical and 16-bit images; DICOM files bring their own
    class_weights: Literal["none", "auto"] | dict[str, float] = "none"
    rows: str | None = None  # rows.json of a Run: use exactly its splits and draws
    unlabelled: str | tuple[str, ...] | None = None  # sources of rows without labels; `rest`: training rows not drawn
    unlabelled_rows: PositiveInt | None = None  # how many of them to draw; the sources are then never held in memory
    transductive: bool = False  # whether validation and test rows may be among them, without their labels
    source: str | tuple[str, ...] | None = None  # labelled rows of other domains
    # What their labels are called in the target; null leaves rows out. own: other labels than the target's
    source_labels: dict[str, str | None] | Literal["own"] = {}
    domain: str | None = None  # a column of `source` and `unlabelled` that names domains; each source is one without it

    @model_validator(mode="after")
    def _one_source_and_one_budget(self) -> DataSpec:
        if self.name is None and self.train is None:
            raise ValueError("give `name` or `train`: a Hub id, a file, a folder or a bundled name")
        if self.name is not None and self.train is not None:
            raise ValueError("give `name` (all splits) or `train` (this split alone), not both")
        if self.labels_per_class is not None and self.fraction is not None:
            raise ValueError("give `labels_per_class` or `fraction`, not both")
        if self.unlabelled_rows is not None and self.unlabelled in (None, "rest"):
            raise ValueError("`unlabelled_rows` draws from files or Hub sets; name them as `unlabelled`")
        if self.source_labels and not self.source:
            raise ValueError("`source_labels` needs `source`")
        return self
