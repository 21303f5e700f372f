"""Host: which board is meant, as the user names it for ssh. Nothing in it can be taken for an option or a command."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from edgevit.errors import InputError

MAX_LENGTH = 255
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SCOPED = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_FIX = "Write user@board, or a name from your ssh config."


@dataclass(frozen=True)
class Host:
    """A destination of ssh. `user` is None where ssh's own config or the local name decides."""

    name: str
    user: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.name}" if self.user else self.name


def parse_host(text: str) -> Host:
    """The host of 'pi@raspberrypi.local', of an alias in ssh's config, or of an IP address.

    Letters, digits, '.', '_' and '-' are all that a name may have, so that it is the same for every shell. A port
    belongs into ssh's config. Raises InputError for anything else.
    """
    shown = repr(text[:80])
    if not text:
        raise InputError(f"The host is empty. {_FIX}")
    if len(text) > MAX_LENGTH:
        raise InputError(f"The host {shown}… has more than {MAX_LENGTH} characters. {_FIX}")
    if text.startswith("-"):
        raise InputError(f"The host {shown} begins with '-', which ssh would take for an option. {_FIX}")
    user, at, name = text.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise InputError(f"The host {shown} has no plain user name before '@'. {_FIX}")
    if not (_NAME.fullmatch(name) or _is_ipv6(name)):
        if re.fullmatch(r"[A-Za-z0-9._-]+:[0-9]+", name):
            raise InputError(f"The host {shown} has a port. Name it in ~/.ssh/config: Host, HostName and Port.")
        raise InputError(f"The host {shown} is no plain host name. {_FIX}")
    return Host(name, user or None)


def _is_ipv6(name: str) -> bool:
    if not _SCOPED.fullmatch(name):
        return False
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False
