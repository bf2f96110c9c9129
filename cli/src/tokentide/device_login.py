"""Logging in this machine: it shows a code and asks until somebody has decided about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import httpx
import msgspec

from tokentide.account_requests import AccountRequests
from tokentide.failures import Exit, Failure
from tokentide.http import TRY_AGAIN, refusal
from tokentide.machine import Machine
from tokentide.sending import retry_after

# RFC 8628: whoever asks too soon waits so much longer from then on.
_SLOWER_S: Final = 5.0
_WAIT: Final = frozenset({"authorization_pending", "slow_down"})
_ENDED: Final = {
    "access_denied": "the login was denied",
    "expired_device_code": "the code has expired: nobody approved it in time",
}


class Codes(msgspec.Struct, frozen=True):
    """What a login begins with: a code for the machine, and one for its user to type."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: float
    interval: float = 5.0


class Named(msgspec.Struct, frozen=True):
    """An organisation."""

    id: str
    name: str = ""


class User(msgspec.Struct, frozen=True):
    """Who approved the machine."""

    id: str
    email: str = ""


class Granted(msgspec.Struct, frozen=True):
    """The keys of an approved machine, and whose they are."""

    machine_key: str
    api_key: str
    organisation: Named
    user: User
    machine_key_id: str = ""
    api_key_id: str = ""

    @property
    def key_ids(self) -> list[str]:
        """In the order to revoke them: the API key last, with which that is done. Older servers tell none."""
        return [key_id for key_id in (self.machine_key_id, self.api_key_id) if key_id]


_Told = TypeVar("_Told", Codes, Granted)


class _Problem(msgspec.Struct):
    code: str = ""


class DeviceLogin:
    """One login. `sleep` and `clock` are parameters so that a test can tell the waits apart."""

    def __init__(
        self,
        requests: AccountRequests,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._sleep = sleep
        self._clock = clock

    def begin(self, machine: Machine) -> Codes:
        """Ask for codes. Raises `Failure`."""
        body = {"machine_id": machine.id[:200], "machine_name": machine.name[:200]}
        return _as(self._requests.post("auth/device", body), Codes)

    def wait(self, codes: Codes) -> Granted:
        """Return the keys once the machine was approved. Raises `Failure` when that will not happen."""
        ends_at = self._clock() + codes.expires_in
        interval, pause = codes.interval, codes.interval
        while self._clock() + pause < ends_at:
            self._sleep(pause)
            answer = self._ask(codes)
            if answer is not None and answer.is_success:
                return _as(msgspec.json.decode(answer.content), Granted)
            if answer is not None and _code(answer) == "slow_down":
                interval += _SLOWER_S
            asked_s = 0.0 if answer is None else retry_after(answer, datetime.now(UTC))
            pause = max(interval, asked_s)
        raise _ended("expired_device_code")

    def _ask(self, codes: Codes) -> httpx.Response | None:
        """Return the answer; None: the server is away, which may be over at the next question."""
        try:
            answer = self._requests.send("POST", "auth/device/token", json={"device_code": codes.device_code})
        except Failure as failure:
            if failure.code is not Exit.TRY_LATER:
                raise
            return None
        code = _code(answer)
        if code in _ENDED:
            raise _ended(code)
        if not answer.is_success and code not in _WAIT and answer.status_code not in TRY_AGAIN:
            raise refusal(answer)
        return answer


def _code(answer: httpx.Response) -> str:
    if answer.is_success:
        return ""
    try:
        return msgspec.json.decode(answer.content, type=_Problem).code
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _ended(code: str) -> Failure:
    return Failure(_ENDED[code], hint="begin again: `tokentide login`")


def _as(answer: object, kind: type[_Told]) -> _Told:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        raise Failure(
            "the server does not answer as a Tokentide server does", hint="check the address"
        ) from None
