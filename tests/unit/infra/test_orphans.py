"""Whatever ends the tests, nothing that they had started stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.process import Process, bound_to_us

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]
STARTS_AND_WAITS = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from infra.process import Process
log = Path(sys.argv[1])
started = Process({SLEEPS!r}, log=log, ready=lambda: b"up" in log.read_bytes())
started.start()
print(started.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="only Linux tells a child of its parent's death")
def test_what_a_killed_worker_had_started_dies_with_it(tmp_path: Path) -> None:
    command = bound_to_us([sys.executable, "-c", STARTS_AND_WAITS, str(tmp_path / "log")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        os.kill(worker.pid, signal.SIGKILL)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()


def test_a_start_that_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupted() -> bool:
        pids.append(starting.pid)
        raise KeyboardInterrupt

    starting = Process(SLEEPS, log=tmp_path / "log", ready=interrupted)
    with pytest.raises(KeyboardInterrupt):
        starting.start()
    assert not psutil.pid_exists(pids[0])
