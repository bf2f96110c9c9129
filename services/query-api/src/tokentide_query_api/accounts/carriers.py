"""Who carries letters: an SMTP server, or on one machine without one its terminal."""

from __future__ import annotations

import sys
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final, TextIO
from urllib.parse import unquote, urlsplit

import aiosmtplib

from tokentide_common.errors import Unavailable
from tokentide_query_api.accounts.letters import Letter
from tokentide_query_api.accounts.outbox import Carrier
from tokentide_query_api.settings import QuerySettings

_TIMEOUT_S: Final = 20.0
_PORTS: Final = {"smtp": 587, "smtp+starttls": 587, "smtps": 465}


def carrier_of(settings: QuerySettings) -> Carrier | None:
    """Return who carries letters by these settings; None: nobody, they wait in the outbox."""
    if settings.smtp_url:
        return Smtp(settings.smtp_url, settings.mail_from)
    return Terminal() if settings.embedded else None


class Smtp:
    """Sends by a mail server: `smtp://`, `smtp+starttls://` or `smtps://`, with a password or without."""

    def __init__(self, url: str, sender: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._timeout_s = timeout_s

    async def carry(self, letter: Letter, message_id: str) -> None:
        """Send one letter; raises `Unavailable`, which says nothing of the letter."""
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = letter.recipient
        message["Subject"] = letter.subject
        message["Date"] = formatdate(usegmt=True)
        # The same at each attempt, so that a mailbox can tell a letter that came twice.
        message["Message-ID"] = f"<{message_id}@{self._sender.rpartition('@')[2].rstrip('>')}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        try:
            await aiosmtplib.send(
                message,
                hostname=self._url.hostname or "",
                port=self._url.port or _PORTS[self._url.scheme],
                username=unquote(self._url.username) if self._url.username else None,
                password=unquote(self._url.password) if self._url.password else None,
                use_tls=self._url.scheme == "smtps",
                start_tls=self._must_start_tls(),
                timeout=self._timeout_s,
            )
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
            raise Unavailable(f"the mail server did not take it: {type(exc).__name__}") from exc

    def _must_start_tls(self) -> bool | None:
        """Tell whether encryption is demanded; None: used where the server offers it."""
        if self._url.scheme == "smtps":
            return False
        # A password never goes unencrypted because somebody on the way hid the server's offer.
        return True if self._url.scheme == "smtp+starttls" or self._url.password else None


class Terminal:
    """Shows letters on standard error: on one machine without a mail server that is the way to get them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    async def carry(self, letter: Letter, message_id: str) -> None:
        """Show one letter."""
        stream = self._stream or sys.stderr
        stream.write(f"\nLetter {message_id} to {letter.recipient}: {letter.subject}\n\n{letter.text}\n")
        stream.flush()
