"""How the command line speaks: messages through rich, from the main process only; libraries keep quiet."""

from __future__ import annotations

import logging
import os
from typing import Any


class session:
    """Within: messages of this package are shown. Torch gets the cores that there are, and keeps memory that it freed.

    Args:
        quiet: warnings only.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def __enter__(self) -> tuple[bool, Any]:
        import warnings

        import datasets
        import transformers
        from rich.console import Console
        from rich.logging import RichHandler

        from hf_smalldata.memory import keep_freed
        from hf_smalldata.training.threads import use_cores

        use_cores()
        keep_freed()
        main = int(os.environ.get("RANK", "0")) == 0
        console = Console()
        logger = logging.getLogger("hf_smalldata")
        logger.handlers = [RichHandler(console=Console(stderr=True), show_time=False, show_path=False)]
        logger.setLevel(logging.ERROR if not main else logging.WARNING if self.quiet else logging.INFO)
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        for each in (FutureWarning, SyntaxWarning):  # of one library about another or itself, not the user's doing
            warnings.filterwarnings("ignore", category=each)
        return main, console

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("hf_smalldata")
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
