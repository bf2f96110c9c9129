"""How a provider's certificate is checked."""

from __future__ import annotations

import os
import ssl

import certifi


def verifying_context() -> ssl.SSLContext:
    """Return the context of all upstream connections: certificate and name are checked, HTTP/1.1 is spoken.

    The system's authorities count, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`; a system that has none, as
    slim containers do, gets Mozilla's.
    """
    context = ssl.create_default_context()
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not chosen and not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
