"""A child process that a test can kill, freeze, thaw and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Say whether something accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def bound_to_us(command: Sequence[str]) -> list[str]:
    """Return the command so that its process dies with ours, however ours ends.

    pytest stops its workers without their fixtures' ends, and a worker may be killed: nobody else would
    end what they have started. Linux tells a child of its parent's death; elsewhere it is not asked for.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


class Process:
    """A command in its own process group; its output goes to a file, never to the test's pipes."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        start_deadline_s: float = 60.0,
    ) -> None:
        self._command, self._log, self._ready = list(command), log, ready
        self._environment = {**os.environ, **(environment or {})}
        self._start_deadline_s = start_deadline_s
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start and return once it serves; fail with the end of its log."""
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                bound_to_us(self._command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:  # also Ctrl-C and the time limit of a test: nobody has it yet who could stop it
            self.kill()
            raise

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._start_deadline_s
        while not self._ready():
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start:\n{self.log_tail()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Let it die at once, as in a crash: SIGKILL to the whole group."""
        self._signal(signal.SIGKILL)
        self._reap(10)

    def pause(self) -> None:
        """Freeze it: its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        # A signal is only on its way when it is sent: on a busy machine one more request could be answered.
        assert self._child is not None
        process = psutil.Process(self._child.pid)
        deadline = time.monotonic() + self._start_deadline_s
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "it was told to stop and runs on"
            time.sleep(0.001)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again with what it left on disk, killing it first if it runs."""
        self.kill()
        self.start()

    def stop(self, deadline_s: float = 10.0) -> None:
        """Ask it to end (SIGTERM), then insist."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        if not self._reap(deadline_s):
            self.kill()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _reap(self, deadline_s: float) -> bool:
        if self._child is None:
            return True
        try:
            self._child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return False
        return True
