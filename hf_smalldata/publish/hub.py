"""The upload: a repository, and one commit of all files. Whole, or not there at all.

The token is what huggingface_hub finds (`hf auth login`, HF_TOKEN); it is never shown or written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # httpx's, or httpx2's in later versions of huggingface_hub
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from hf_smalldata.destination import PublishSpec
from hf_smalldata.errors import UserError
from hf_smalldata.publish.card import recipe_of
from hf_smalldata.publish.shipment import Shipment
from hf_smalldata.run import Run, read_json

ATTEMPTS = 3
WAIT_SECONDS = 2.0  # doubled after each attempt

# Files of an earlier publication that would mislead a loader if they stayed beside the new ones.
STALE = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "adapter/*", "onnx/*", "smalldata/*")

# What the client raises as a connection breaks; of the last sort are its uploads by Xet.
CONNECTION = (HTTPError, ConnectionError, RuntimeError)

logger = logging.getLogger(__name__)


def ready(spec: PublishSpec) -> None:
    """The Hub can be reached and knows who we are; asked before a training, so that none is in vain.

    Raises:
        UserError: offline, not logged in, a token that is not valid, or a public repository that is to be private.
    """
    with _told(spec.repo):
        if get_token() is None:
            raise UserError("not logged in to the Hub; run `hf auth login`, or set HF_TOKEN to a token that may write")
        HfApi().whoami()
        _check_private(spec)


def fetch_card(run: Run) -> None:
    """Bring the card of a base model on the Hub to this machine: its licence and language are inherited."""
    name = recipe_of(run).model.name
    if name not in read_json(run.part("environment.json")).get("on_hub", ()):
        return
    try:
        hf_hub_download(name, constants.REPOCARD_NAME)
    except (HTTPError, OSError) as error:
        logger.warning("the card of %s cannot be read, so no licence is inherited: %s", name, str(error).split("\n")[0])


def standing(repo: str) -> list[str]:
    """Files of a repository as it is; none where there is no such repository yet.

    Raises:
        UserError: it cannot be looked at.
    """
    with _told(repo):
        try:
            return HfApi().list_repo_files(repo)
        except RepositoryNotFoundError:
            return []


def stale(files: list[str], shipment: Shipment) -> list[str]:
    """Of the files that are there those that the commit takes away."""
    new = {item.path for item in shipment.items}
    return [file for file in files if file not in new and any(fnmatch(file, pattern) for pattern in STALE)]


def send(shipment: Shipment, files: list[str]) -> str:
    """Create the repository where it is missing and commit everything at once; the address.

    What was uploaded before the connection broke is not sent again, by this call or a later one.

    Args:
        shipment: what goes up.
        files: as `standing` found them.

    Raises:
        UserError: refused, public but to be private, or the connection broke at every attempt; the repository is as it
            was.
    """
    spec, api = shipment.spec, HfApi()
    with _told(spec.repo), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")  # row ids, asked for
        _check_private(spec)
        address = api.create_repo(spec.repo, private=spec.private, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                api.create_commit(
                    spec.repo,
                    [*(CommitOperationDelete(file) for file in stale(files, shipment)), *_additions(shipment)],
                    commit_message="Publish with hf_smalldata",
                )
            except CONNECTION as error:
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise
                wait = WAIT_SECONDS * 2 ** (attempt - 1)
                logger.warning("the connection broke; once more in %.0f s", wait)
                time.sleep(wait)
            else:
                break
    return str(address)


def _check_private(spec: PublishSpec) -> None:
    """What is to be private goes into no repository that all can read: the Hub leaves one that is there as it is.

    Raises:
        UserError: it is there, and public.
    """
    if not spec.private:
        return
    try:
        public = not HfApi().model_info(spec.repo).private
    except RepositoryNotFoundError:
        return
    if public:
        raise UserError(
            f"{spec.repo} is there already and public, and --private is of new repositories; make it "
            "private on its settings page, or leave out --private (in a recipe publish.private)"
        )


def _additions(shipment: Shipment) -> Iterator[CommitOperationAdd]:
    for item in shipment.items:
        content = io.BytesIO(item.content) if isinstance(item.content, bytes) else item.content
        yield CommitOperationAdd(item.path, content)


def _may_pass(error: BaseException) -> bool:
    """Whether it is the connection or the server that failed, not the request."""
    cause = _cause(error)
    if isinstance(cause, HfHubHTTPError):
        return int(cause.response.status_code) >= 500
    return isinstance(cause, CONNECTION)


def _cause(error: BaseException) -> BaseException:
    """What LFS met as it uploaded a file."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


@contextlib.contextmanager
def _told(repo: str) -> Iterator[None]:
    """What the client raises, as one sentence with a way out."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set; unset it to publish") from error
    except GatedRepoError as error:
        raise UserError(f"{repo} is gated, and this token has no access to it; ask for it on its page") from error
    except CONNECTION as error:
        cause = _cause(error)
        if isinstance(cause, HfHubHTTPError):
            raise UserError(_refused(repo, cause)) from error
        if not isinstance(cause, CONNECTION):
            raise
        raise UserError(
            f"the connection to {constants.ENDPOINT} broke ({' '.join(str(cause).split()) or type(cause).__name__}); "
            f"{repo} is as it was. `hf-smalldata publish` goes on where this ended"
        ) from error


def _refused(repo: str, error: HfHubHTTPError) -> str:
    """An answer of the Hub, by its status."""
    status = error.response.status_code
    if status in (401, 403):
        return (f"the Hub refuses this token for {repo} (HTTP {status}); log in with one that may write there: "
                "`hf auth login`")  # fmt: skip
    return f"the Hub refused {repo} (HTTP {status}): {error.server_message or str(error).splitlines()[0]}"
