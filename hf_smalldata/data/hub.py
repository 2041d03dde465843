"""Data sets of the Hugging Face Hub, as tables by split, or one clear error when the Hub cannot be reached."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import datasets
from huggingface_hub import constants
from huggingface_hub.utils import logging as hub_logging

from hf_smalldata.data.bundled import BUNDLED_DATA
from hf_smalldata.data.table import Table, split_of, table_of_dataset
from hf_smalldata.errors import UserError, listed


def read_hub(name: str, config: str | None = None, revision: str | None = None) -> dict[str, Table]:
    """All splits of a Hub data set that we know a use for; ids are `<split>:<index>`.

    Raises:
        UserError: no such data set, no network, or a configuration that is missing.
    """
    with _asked(name):
        loaded = datasets.load_dataset(name, config, revision=revision)
    tables: dict[str, Table] = {}
    for split_name, rows in loaded.items():
        split = split_of(str(split_name))
        if split is not None and split not in tables:
            tables[split] = table_of_dataset(rows, f"{name} ({split_name})", str(split_name))
    if not tables:
        raise UserError(
            f"'{name}' has the splits {listed(list(loaded))}; expected train, validation or test among them"
        )
    return tables


def stream_hub(name: str, config: str | None = None, revision: str | None = None) -> datasets.IterableDataset:
    """The training rows of a Hub data set, fetched as they are asked for.

    Raises:
        UserError: as `read_hub`, or no training split.
    """
    with _asked(name):
        return datasets.load_dataset(name, config, revision=revision, split="train", streaming=True)


@contextmanager
def _asked(name: str) -> Iterator[None]:
    """Within: the Hub is asked for a data set; what goes wrong is one clear error."""
    offline = constants.is_offline_mode() or datasets.config.HF_HUB_OFFLINE
    if not _is_cached(name) and (offline or not _hub_answers()):
        raise UserError(_unreachable(name, "HF_HUB_OFFLINE is set" if offline else "there is no network"))
    try:
        with quiet(hub_logging, logging.ERROR):  # each retry logs a warning
            yield
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"'{name}' is no file or folder here and no public data set of the Hub ({first_line(error)}); "
            "check the spelling, or log in with `hf auth login` if it is private"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:  # what load_dataset raises of network, configuration, scripts
        if isinstance(error, ConnectionError):
            raise UserError(_unreachable(name, first_line(error))) from error
        raise UserError(f"could not load '{name}' from the Hub: {first_line(error)}; see data.config") from error


def _unreachable(name: str, why: str) -> str:
    return (
        f"'{name}' is no file or folder here, so it was taken for a Hub data set; the Hub cannot be reached ({why}). "
        f"Check the path, connect, or use one of the data sets that come with pip: {listed(list(BUNDLED_DATA))}"
    )


def first_line(error: BaseException) -> str:
    """Of what an error says, or its kind where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _is_cached(name: str) -> bool:
    return (Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___").lower()).exists() or (
        Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")
    ).exists()


def _hub_answers() -> bool:
    """False when the Hub's name cannot be looked up: asked first, since load_dataset retries for 20 seconds."""
    if urllib.request.getproxies():  # a proxy looks the name up for us
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except socket.gaierror:
        return False
    return True


@contextmanager
def quiet(logs: Any, level: int) -> Iterator[None]:
    """Within: a library, by its own `utils.logging`, says nothing below a level. The one error at the end says it."""
    before = logs.get_verbosity()
    logs.set_verbosity(level)
    try:
        yield
    finally:
        logs.set_verbosity(before)
