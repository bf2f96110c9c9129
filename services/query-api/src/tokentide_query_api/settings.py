"""What the query API can be told, all of it in the environment."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tokentide_common.settings import Port, SharedSettings
from tokentide_query_api.accounts.oidc_settings import oidc_providers

PerMinute = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Origin = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/,*?#]+$")]


class QuerySettings(SharedSettings, frozen=True, kw_only=True):
    """Settings of the query API."""

    oidc_providers: Annotated[
        str,
        msgspec.Meta(
            description="Identity providers that people may log in with; see the how-to.",
            extra={"secret": True, "expected": "a JSON list of identity providers"},
        ),
    ] = ""
    price_overrides: Annotated[
        str,
        msgspec.Meta(
            description="The dated price file that the aggregator has: it tells what each kind of token cost."
        ),
    ] = ""
    query_port: Annotated[Port, msgspec.Meta(description="The query API and the dashboard.")] = 8000
    public_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(https?://[^\s?#]+)?$",
            description="Where people reach the query API and the dashboard from outside: what links in "
            "letters begin with. Empty: `http://127.0.0.1:` and the port.",
            extra={"expected": "http://… or https://…"},
        ),
    ] = ""
    signup: Annotated[
        Literal["invited", "open", "closed"],
        msgspec.Meta(
            description="Who may sign up with a password: `invited`, whoever has an invitation; `open`, "
            "everybody, each with an organisation of their own; `closed`, nobody. Where nobody has signed up "
            "yet, `invited` takes the first one without an invitation."
        ),
    ] = "invited"
    smtp_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(smtp|smtps|smtp\+starttls)://\S+$|^$",
            description="The mail server for letters. `smtps` encrypts from the start, `smtp+starttls` "
            "demands STARTTLS, `smtp` uses it where it is offered and demands it before a password. Empty: "
            "nobody gets letters, which are deleted after 7 days; `tokentide up` shows them in its terminal.",
            extra={"secret": True, "expected": "smtp[s]://[user:password@]host[:port]"},
        ),
    ] = ""
    mail_from: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^([^\r\n<>]*<)?[^@\s<>]+@[^@\s<>]+>?$",
            description="The sender of letters.",
            extra={
                "expected": "an e-mail address, with a name or without: Tokentide <tokentide@example.com>"
            },
        ),
    ] = "Tokentide <tokentide@localhost>"

    kept_answers_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="Memory for answers that are given again while nothing has changed that they were "
            "read from. 0: every question is read anew.",
        ),
    ] = 33_554_432

    rate_auth_per_minute: Annotated[
        PerMinute,
        msgspec.Meta(
            description="Logins, sign-ups, refreshes and the like from one address; a minute's worth may "
            "come at once."
        ),
    ] = 30
    rate_read_per_minute: Annotated[
        PerMinute,
        msgspec.Meta(description="Reading requests of one key or user; four times as many from one address."),
    ] = 3000
    rate_write_per_minute: Annotated[
        PerMinute,
        msgspec.Meta(description="Changes by one key or user; four times as many from one address."),
    ] = 300
    rate_export_per_minute: Annotated[
        PerMinute,
        msgspec.Meta(
            description="Answers as CSV, NDJSON or Parquet to one key or user; four times as many to one "
            "address."
        ),
    ] = 60
    rate_limits_shared: Annotated[
        bool,
        msgspec.Meta(
            description="Count requests of all replicas together, in the accounts database; else each "
            "replica counts for itself."
        ),
    ] = False
    trusted_proxies: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=10,
            description="How many proxies of yours stand before the query API, each adding to "
            "X-Forwarded-For. With 0 the header is not believed.",
        ),
    ] = 0
    cors_origins: Annotated[
        tuple[Origin, ...],
        msgspec.Meta(
            description="Origins whose pages may read answers in a browser, besides our own.",
            extra={"expected": "origins like https://example.com, with commas"},
        ),
    ] = ()

    webhooks_private: Annotated[
        bool,
        msgspec.Meta(
            description="Let alerts go to webhooks in private networks and on this machine too, and where an "
            "HTTP proxy resolves names. Only where every admin may reach what the query API can reach."
        ),
    ] = False

    def __post_init__(self) -> None:
        """Stop the start with providers that cannot be, and say what is wrong with them."""
        oidc_providers(self.oidc_providers)

    @property
    def link_base(self) -> str:
        """What links in letters begin with; never what a request claims to be its host."""
        return self.public_url or f"http://127.0.0.1:{self.query_port}"
