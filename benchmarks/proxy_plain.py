"""Our forwarding without what is done for a call: no key checked or replaced, no usage read, no event.

What the service costs over this is what counting costs. `python benchmarks/proxy_plain.py PORT UPSTREAM_PORT`
"""

from __future__ import annotations

import sys

from tokentide_common import logging
from tokentide_common.key_directory import KeyRecord
from tokentide_common.metrics import Metrics
from tokentide_common.probes import nothing_needed
from tokentide_common.serving import serving, stop_requested
from tokentide_proxy.__main__ import run, tune_garbage_collection
from tokentide_proxy.app import ProxyApp, serving_options
from tokentide_proxy.control import Control
from tokentide_proxy.exchange import Admission, Headers, Upstream
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.forwarding import Forwarder
from tokentide_proxy.routing import Routes
from tokentide_proxy.settings import ProxySettings
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_table import upstreams

_NOBODY = KeyRecord(key_id="key_0", org_id="org_0", kind="p")


class _Open:
    """Lets everybody in, with what they brought."""

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Check nothing."""
        return self.admit_at_once(upstream, target, headers, peer)

    def admit_at_once(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Check nothing."""
        return Admission(_NOBODY, "local", target, headers)

    def still_admits(self, admission: Admission, upstream: Upstream) -> bool:
        """Check nothing."""
        return True

    def over_budget(self, admission: Admission, method: bytes) -> None:
        """Check nothing."""


class _Silent:
    """Takes nothing down."""

    def record(self, exchange: Exchange) -> None:
        """Forget it."""


async def serve(port: int, upstream_port: int) -> None:
    """Serve until told to stop."""
    settings = ProxySettings(broker_url="kafka://127.0.0.1:1", database_url="sqlite://")
    client = UpstreamClient()
    table = upstreams([f"anthropic=anthropic+http://127.0.0.1:{upstream_port}"])
    forwarder = Forwarder(
        Routes(table), _Open(), client, _Silent(), max_body_bytes=1 << 30, stream_usage=True
    )
    control = Control(Metrics(), nothing_needed)
    options = serving_options(settings)
    async with serving(ProxyApp(forwarder, control), host="127.0.0.1", port=port, drain_s=1, options=options):
        tune_garbage_collection()
        await stop_requested()
    await client.stop()


if __name__ == "__main__":
    logging.configure("json")
    run(serve(int(sys.argv[1]), int(sys.argv[2])))
