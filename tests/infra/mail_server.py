"""A real SMTP server inside the test's event loop: takes letters, or refuses as many as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator
from email.message import EmailMessage


class MailServer:
    """What was sent to it; `refusals` counts down, one for each letter that is not taken."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refusals = 0
        self.refused = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())

        say("220 mail.test ESMTP")
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := (await reader.readline()).decode().strip():
                verb = line.split(" ")[0].upper()
                if verb == "EHLO":
                    say("250 mail.test")
                elif verb == "RCPT":
                    self.recipients.append(line)
                    say("250 fine")
                elif verb == "DATA":
                    await self._data(reader, say)
                elif verb == "QUIT":
                    say("221 bye")
                    break
                else:
                    say("250 fine")
                await writer.drain()
        writer.close()

    async def _data(self, reader, say) -> None:
        say("354 go on")
        text = await reader.readuntil(b"\r\n.\r\n")
        if self.refusals > 0:
            self.refusals -= 1
            self.refused += 1
            say("451 later")
            return
        parsed = email.message_from_bytes(text[:-3], policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self.letters.append(parsed)
        say("250 taken")


@contextlib.asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """Listen on any free port."""
    mail = MailServer()
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()
