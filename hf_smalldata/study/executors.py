"""Where the Runs of a study are made: in this process, in several of this machine, or on a Ray cluster.

Each takes Runs to make and yields each with its files as it is done; only the caller writes to the study's folder. Rows
travel with the plan. Models, and files that rows name (images), must be found at the same place everywhere.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from joblib import cpu_count

from hf_smalldata.errors import UserError, require
from hf_smalldata.memory import keep_freed
from hf_smalldata.study.plan import Cell
from hf_smalldata.study.workbench import Files, Workbench

Done = tuple[Cell, Files | UserError]
Executor = Callable[[Workbench, Sequence[Cell]], Iterator[Done]]

RETRIES = 3  # of a Run whose Ray worker died

_bench: Workbench  # of a worker process


def choose(name: str, jobs: int | None = None, address: str | None = None) -> Executor:
    """The executor of a name: `local` or `ray`.

    Raises:
        UserError: no such name, or options of the other one.
    """
    if name not in ("local", "ray"):
        raise UserError(f"--executor: expected local or ray, got '{name}'")
    if name == "ray":
        return on_ray(jobs, address)
    if address is not None:
        raise UserError("--address is of a Ray cluster; add --executor ray")
    if jobs and jobs > 1 and PartialState().num_processes > 1:
        raise UserError(f"--jobs {jobs}: under `accelerate launch` each Run has all processes; leave --jobs out")
    return in_processes(jobs) if jobs and jobs > 1 else in_process


def in_process(bench: Workbench, cells: Sequence[Cell]) -> Iterator[Done]:
    """One after the other, all sharing one workbench: nothing is computed twice."""
    for cell in cells:
        yield cell, attempt(bench, cell)


def in_processes(jobs: int) -> Executor:
    """`jobs` processes of this machine, its cores (and GPUs) divided among them; each has its own workbench.

    Raises:
        UserError: one of them was killed.
    """

    def execute(bench: Workbench, cells: Sequence[Cell]) -> Iterator[Done]:
        spawn, threads = multiprocessing.get_context("spawn"), max(1, cpu_count() // jobs)
        number = spawn.Value("i", 0)
        with _threads(threads):
            pool = ProcessPoolExecutor(jobs, spawn, _start, (bench, threads, number, torch.cuda.device_count()))
            try:
                waiting = {pool.submit(_run, cell): cell for cell in cells}
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            except BaseException as error:
                for process in multiprocessing.active_children():
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise UserError(
                        "a worker process was killed, most likely for want of memory; Runs that are done are kept, and "
                        f"the same command goes on (with fewer at a time: --jobs, now {jobs})"
                    ) from error
                raise
            pool.shutdown()

    return execute


def on_ray(jobs: int | None, address: str | None) -> Executor:
    """Ray actors: those of this machine, or of the cluster at `address`.

    Args:
        jobs: actors at a time; default: one for each GPU, or for each node where there is none.
        address: of a running cluster, such as `auto` or `ray://head:10001`; None starts Ray on this machine.

    A worker that dies is started again, here or on another node, and the Run that it had is made anew; Runs that were
    done are not.

    Raises:
        UserError: Ray is not installed, no cluster answers, or workers die again and again.
    """

    def execute(bench: Workbench, cells: Sequence[Cell]) -> Iterator[Done]:
        ray: Any = require("ray", extra="ray")
        pools: Any = require("ray.util", extra="ray")
        try:
            ray.init(address=address, log_to_driver=False, ignore_reinit_error=True, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--address {address}: no Ray cluster there: {error}") from error
        try:
            there = ray.cluster_resources()
            gpus, nodes = int(there.get("GPU", 0)), len(ray.nodes())
            count = min(jobs or gpus or nodes, len(cells))
            cores = max(1, int(there["CPU"]) // max(count, 1))
            lives = {"max_restarts": -1, "max_task_retries": RETRIES}
            actor = ray.remote(num_cpus=cores, num_gpus=gpus / count if gpus else 0, **lives)(_Remote)
            pool = pools.ActorPool([actor.remote(bench, cores) for _ in range(count)])
            yield from pool.map_unordered(lambda made, cell: made.run.remote(cell), cells)
        except ray.exceptions.RayActorError as error:
            raise UserError(
                f"Ray workers died {RETRIES + 1} times in one Run, most likely for want of memory; Runs that are done "
                "are kept, and the same command goes on (with fewer at a time: --jobs)"
            ) from error
        finally:
            ray.shutdown()

    return execute


def attempt(bench: Workbench, cell: Cell) -> Files | UserError:
    """A Run's files, or why there are none; the other Runs go on."""
    try:
        return bench.run(cell)
    except UserError as error:
        return error


class _Remote:
    """A Ray actor: a workbench on some node."""

    def __init__(self, bench: Workbench, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed()
        logging.getLogger("hf_smalldata").setLevel(logging.WARNING)
        self.bench = bench
        self.bench.work = Path(tempfile.mkdtemp(prefix="hf_smalldata-"))

    def run(self, cell: Cell) -> Done:
        """One Run."""
        return cell, attempt(self.bench, cell)


def _start(bench: Workbench, threads: int, number: Any, gpus: int) -> None:
    """A worker process begins: its share of cores, its GPU, and silence."""
    global _bench  # noqa: PLW0603  # a pool's workers have no other place of their own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    with number.get_lock():
        mine, number.value = number.value, number.value + 1
    if gpus > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(mine % gpus)
    torch.set_num_threads(threads)
    keep_freed()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # progress bars of several processes would overwrite each other
    _bench = bench
    _bench.work = bench.work / f"worker-{mine}"


def _run(cell: Cell) -> Files | UserError:
    return attempt(_bench, cell)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes started within have this many threads a library; torch alone could be told later."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
