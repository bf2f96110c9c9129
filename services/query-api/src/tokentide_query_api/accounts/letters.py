"""What letters to people say. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

# What holds an address together, also dots that browsers take for dots; "Acme Inc." stays as it is.
_JOINTS: Final = re.compile(r"[.:/\\@\u3002\uff0e\uff61\u2024]+(?=\S)")
_HOURS_OF_RESET: Final = 1
_DAYS_OF_VERIFYING: Final = 3


class Letter(msgspec.Struct, frozen=True):
    """A letter to one person."""

    recipient: str
    subject: str
    text: str


def verify_email(recipient: str, public_url: str, secret: str) -> Letter:
    """Return the letter by which somebody shows that an address is theirs."""
    return Letter(
        recipient,
        "Confirm your e-mail address",
        "Somebody signed up to Tokentide with this e-mail address. If it was you, confirm it here, within "
        f"{_DAYS_OF_VERIFYING} days:\n\n{_link(public_url, 'verify-email', secret)}\n\n"
        "If it was not you, there is nothing to do.\n",
    )


def reset_password(recipient: str, public_url: str, secret: str) -> Letter:
    """Return the letter to somebody who forgot their password."""
    return Letter(
        recipient,
        "Choose a new password",
        "Somebody, probably you, wants to choose a new password for your Tokentide account. Do it here, "
        f"within {_HOURS_OF_RESET} hour:\n\n{_link(public_url, 'reset-password', secret)}\n\n"
        "All your sessions end then. If it was not you, there is nothing to do.\n",
    )


def password_changed(recipient: str) -> Letter:
    """Return the letter that tells of a new password, in case that somebody else chose it."""
    return Letter(
        recipient,
        "Your password was changed",
        "The password of your Tokentide account was changed, and your other sessions have ended. If it "
        "was not you, choose a new one at once (“forgot password”) and tell an administrator.\n",
    )


def invitation(recipient: str, public_url: str, secret: str, *, organisation: str, inviter: str) -> Letter:
    """Return the letter that invites somebody to an organisation."""
    by = f"{_line(inviter)} invites you" if inviter else "You are invited"
    return Letter(
        recipient,
        f"Invitation to {_no_link(organisation)}",
        f"{by} to {_no_link(organisation)} on Tokentide. Accept here:\n\n"
        f"{_link(public_url, 'accept-invitation', secret)}\n\n"
        "If you did not expect this, there is nothing to do.\n",
    )


def _link(public_url: str, page: str, secret: str) -> str:
    # Behind the hash: browsers send that to no server, so that no log and no `Referer` shows it.
    return f"{public_url.rstrip('/')}/{page}#token={secret}"


def _no_link(text: str) -> str:
    """Return a name as one line in which no mail program finds an address to click on."""
    return _line(_JOINTS.sub(" ", text))


def _line(text: str) -> str:
    """Return a text that somebody chose as one line: it ends no header and pretends no paragraph."""
    return " ".join(text.split())[:200]
