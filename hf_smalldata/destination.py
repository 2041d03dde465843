"""The `publish:` section of a recipe: where a trained model goes, and how much is told of the rows it learnt from."""

from __future__ import annotations

from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from pydantic import BaseModel, ConfigDict, field_validator


class PublishSpec(BaseModel):
    """A repository of the Hub and what goes into it. Rows never do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str  # owner/name
    private: bool = False  # a new repository is made so; one that is there must be so already
    adapter_only: bool = False  # the adapter without the merged weights; its base model must be on the Hub
    row_ids: bool = False  # also rows.json and predictions.parquet: ids, labels and predictions, no inputs
    errors: bool = False  # also the report, which shows the texts or images that were labelled wrong
    license: str | None = None  # default: that of the base model
    language: str | None = None  # of texts and speech, such as da; default: the base model's, where it has just one

    @field_validator("repo")
    @classmethod
    def _owner_and_name(cls, repo: str) -> str:
        validate_repo_id(repo)
        if "/" not in repo:
            raise ValueError("expected owner/name, such as me/reviews")
        return repo


def public_name(name: str) -> str:
    """A Hub id or bundled name as it is; of a path only the last part."""
    local = name.startswith((".", "/", "~")) or name.count("/") > 1
    return name.rstrip("/").rsplit("/", 1)[-1] if local else name
