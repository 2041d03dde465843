"""A publish that is killed (SIGKILL) at any moment: the Hub holds nothing of it or all, and the same command finishes.

`HF_SMALLDATA_KILLS=20 scripts/test -m slow tests/publish/test_killed_publish.py` kills it as often.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

KILLS = int(os.environ.get("HF_SMALLDATA_KILLS", "4"))
EARLIEST, LATEST = 0.5, 1.0  # of the time that a whole publish takes: libraries load before


def contents(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_whenever_a_publish_is_killed_the_hub_holds_all_or_nothing_and_the_same_command_finishes(
    run, hub_server, tmp_path
):
    hub, before = hub_server.Hub(), contents(run.folder)

    def publish(repo: str) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub_server.TOKEN,
                        "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
        call = [sys.executable, "-m", "hf_smalldata", "publish", str(run.folder), "--repo", repo, "--yes"]
        return subprocess.Popen(call, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip

    with hub.running():
        begun = time.monotonic()
        whole = publish("me/whole")
        said, _ = whole.communicate(timeout=300)
        assert whole.returncode == 0, said
        seconds, files = time.monotonic() - begun, sorted(hub.repos["me/whole"].files)
        rng = np.random.default_rng()
        for at in range(KILLS):
            repo, moment = f"me/killed{at}", rng.uniform(EARLIEST, LATEST) * seconds
            killed = publish(repo)
            time.sleep(moment)
            os.killpg(killed.pid, signal.SIGKILL)
            killed.communicate()
            there = hub.repos.get(repo)
            assert there is None or sorted(there.files) in ([], files), f"killed after {moment:.2f} s"
            again = publish(repo)
            said, _ = again.communicate(timeout=300)
            assert again.returncode == 0, f"killed after {moment:.2f} s: {said}"
            assert sorted(hub.repos[repo].files) == files
            assert contents(run.folder) == before
