"""A request that came whole and goes up at once: it takes no task, since there is nothing to wait for.

The connections of both sides call it when something happens. What it cannot do takes a task after all.
"""

from __future__ import annotations

from collections.abc import Callable

from tokentide_proxy.answer_delivery import Delivery, begin_answer
from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.connection import Connection
from tokentide_proxy.exchanges import BrokeOff, Exchange
from tokentide_proxy.response import Response

Broken = Callable[[Exchange, Exception, Cycle], None]
"""Notes what went wrong, and tells the client."""
Ended = Callable[[Exchange], None]
Again = Callable[[Exchange], None]
"""Lets go of an exchange that begins once more, as another one."""


class Passage:
    """From the moment when the request goes up to the end of the answer, however it ends."""

    __slots__ = (
        "_again",
        "_broken",
        "_client",
        "_connection",
        "_delivery",
        "_ended",
        "_exchange",
        "_hides_usage",
        "_response",
    )

    def __init__(
        self,
        exchange: Exchange,
        client: Cycle,
        broken: Broken,
        ended: Ended,
        again: Again,
        *,
        hides_usage: bool,
    ) -> None:
        self._exchange = exchange
        self._client = client
        self._broken = broken
        self._ended: Ended | None = ended
        self._again = again
        self._hides_usage = hides_usage
        self._connection: Connection | None = None
        self._response: Response | None = None
        self._delivery: Delivery | None = None

    def begun(self, connection: Connection) -> None:
        """The request is on its way."""
        self._connection = connection
        self._client.drain(self)
        self._client.watch(self._client_left)

    def answered(self, response: Response) -> None:
        """Pass the answer on."""
        exchange, client = self._exchange, self._client
        exchange.request_sent_at = response.sent_at
        self._response = response
        try:
            self._delivery = begin_answer(exchange, response, client, hides_usage=self._hides_usage)
            response.pass_on(self._delivery, self._over)
            client.flush()
        except Exception as error:
            self._fail(error)

    def unanswered(self, error: BaseException) -> None:
        """Tell the client; what cannot have been worked on is sent once more."""
        connection, client = self._connection, self._client
        if self._ended is not None and connection is not None and connection.died_of_idleness():
            self._let_go()
            self._again(self._exchange)
            client.serve_in_task()
        else:
            self._fail(error)

    def cancel(self, msg: str | None = None) -> bool:
        """Break off: the server ends and waits no longer."""
        # Not now: whoever cancels goes through a set of those that are under way.
        self._client.loop.call_soon(self._leave, "proxy_stopped")
        return True

    def _over(self, error: BaseException | None) -> None:
        if self._ended is None or self._delivery is None:
            return
        try:
            self._delivery.end_hiding()
            if error is None:
                self._delivery.end()
        except Exception as own:
            error = own
        if error is None:
            self._end()
        else:
            self._fail(error)

    def _client_left(self) -> None:
        self._leave("client_left")

    def _leave(self, why: BrokeOff) -> None:
        if self._ended is not None:
            self._exchange.left(why)
            self._client.cut()
            self._end()

    def _fail(self, error: BaseException) -> None:
        if self._ended is not None:
            assert isinstance(error, Exception), "nothing else is made of what goes wrong with a connection"
            self._broken(self._exchange, error, self._client)
            self._end()

    def _end(self) -> None:
        ended = self._let_go()
        if self._response is not None:
            self._response.abort()  # once it is complete this does nothing: the connection may be another's
        elif self._connection is not None:
            self._connection.abort()
        if ended is not None:
            ended(self._exchange)

    def _let_go(self) -> Ended | None:
        ended, self._ended = self._ended, None
        self._client.watch(None)
        self._client.when_drained(None)
        self._client.drained(self)
        return ended
