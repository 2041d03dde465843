"""The energy that a training took, where codecarbon (extra `energy`) is installed. Nothing is sent anywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

ANYWHERE = "FRA"  # a country is asked for to tell emissions; energy does not depend on it


@contextmanager
def metered(main: bool = True) -> Iterator[dict[str, float]]:
    """Within: power is measured. Afterwards `energy_kwh` is in what is yielded, of CPU, memory and GPUs together.

    CPUs whose counters this user may not read are estimated by model and load (https://mlco2.github.io/codecarbon).

    Args:
        main: whether this process measures; nothing is told otherwise, nor without codecarbon.
    """
    told: dict[str, float] = {}
    try:
        codecarbon = import_module("codecarbon") if main else None
    except ImportError:
        codecarbon = None
    if codecarbon is None:
        yield told
        return
    logging.getLogger("codecarbon").disabled = True
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code=ANYWHERE, save_to_file=False, log_level="critical", allow_multiple_runs=True
    )
    tracker.start()
    try:
        yield told
    finally:
        tracker.stop()
    found = getattr(tracker, "final_emissions_data", None)  # codecarbon logs its own failures, and has none then
    if found is not None:
        told["energy_kwh"] = float(f"{found.energy_consumed:.3g}")
