"""Complaints: what ssh says when a connection fails, as one line that names the cause and what to do."""

from __future__ import annotations

import re

from edgevit.errors import DeviceError, EdgevitError, InputError
from edgevit.remote.host import Host

MAX_QUOTED = 200

# Source: messages of OpenSSH 7.6 to 10: ssh.c, sshconnect.c, sshconnect2.c, readconf.c, packet.c, misc.c.
_CHANGED = re.compile(r"HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed|differs from the key for the IP")
_UNKNOWN = re.compile(r"host key is known for|Host key verification failed|authenticity of host")
_REVOKED = re.compile(r"REVOKED HOST KEY|host key .*revoked", re.IGNORECASE)
_REFUSED = re.compile(
    r"Permission denied \(|Permission denied, please|Too many authentication failures|No more authent"
)
_CONFIG = re.compile(r"(?m)^.*(?:[Bb]ad configuration option|terminating, \d+ bad|Bad owner or permissions on).*$")
_NAME = re.compile(r"Could not resolve hostname|Name or service not known|nodename nor servname")
_SILENT = re.compile(r"timed out|No route to host|Network is unreachable|Host is down")
_CLOSED_PORT = re.compile(r"Connection refused")
_DROPPED = re.compile(
    r"Connection (?:closed|reset)|Broken pipe|kex_exchange_identification|Server not responding|aborted"
)


def connection_error(host: Host, said: str) -> EdgevitError:
    """Why no connection to the host came about, from what ssh wrote to stderr."""
    name = host.name
    if _CHANGED.search(said):
        return DeviceError(
            f"{host}: its host key is not the one that known_hosts has. Another machine may be answering. If the board "
            f"was set up anew, forget the old key with: ssh-keygen -R {name}"
        )
    if _REVOKED.search(said):
        return DeviceError(f"{host}: its host key is revoked in your ssh config. Give the board a new key.")
    if _UNKNOWN.search(said):
        return DeviceError(
            f"{host}: its host key is not in known_hosts. Connect once by hand, compare the fingerprint and accept it: "
            f"ssh {host}"
        )
    if _REFUSED.search(said):
        return DeviceError(f"{host}: the board lets nobody in with your keys. Bring one there with: ssh-copy-id {host}")
    if config := _CONFIG.search(said):
        return InputError(f"{host}: ssh refuses its configuration: {quoted(config[0])}. Mend that file.")
    if _NAME.search(said):
        return DeviceError(f"{host}: there is no machine of that name. Check the spelling, or use its IP address.")
    if _CLOSED_PORT.search(said):
        fix = "On the board: sudo systemctl enable --now ssh"
        return DeviceError(f"{host}: the machine answers, but no ssh server listens there. {fix}")
    if _SILENT.search(said):
        return DeviceError(f"{host}: does not answer. Is the board switched on, and in the same network? ping {name}")
    if _DROPPED.search(said):
        return DeviceError(f"{host}: closed the connection while it was being made. Try: ssh -v {host}")
    return DeviceError(f"{host}: ssh cannot connect ({quoted(said) or 'it gives no reason'}). Try: ssh -v {host}")


def dropped_error(host: Host, doing: str) -> DeviceError:
    """The connection was there and is gone. doing: what it was needed for ('copying the bundle')."""
    return DeviceError(
        f"{host}: the connection was lost while {doing}. The board ends and clears up what it began within "
        "30 s; check its power and its network, then give the same command again."
    )


def quoted(said: str) -> str:
    """The last line that says something, without control characters, cut to a length for a message."""
    lines = [line for line in map(printable, said.splitlines()) if line]
    last = lines[-1].removeprefix("Error: ").rstrip(".") if lines else ""
    return last if len(last) <= MAX_QUOTED else last[:MAX_QUOTED] + "…"


def printable(text: str) -> str:
    """The text as one line that a terminal shows and does not obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
