"""The hub that timm takes pretrained weights from: what is on this machine already, and whether it answers.

Its client retries for about 50 s when there is no network; these questions are answered in three at most.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

CONNECT_SECONDS = 3.0
HTTPS_PORT = 443


@contextmanager
def without_network() -> Iterator[None]:
    """Inside, the hub's client reads its cache only: it raises at once for what is not there."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_offline() -> bool:
    """True when HF_HUB_OFFLINE is set in the environment."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def may_be_cached(config: Any) -> bool:
    """False when timm would go online at once: weights from a bare address that were never fetched.

    config: timm's PretrainedCfg.
    """
    if config.hf_hub_id or not config.url:
        return True
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(config.url).path).name).is_file()


def weights_server(config: Any) -> tuple[str, int]:
    """Host and port of the server that timm takes these weights from."""
    from huggingface_hub import constants

    return _host_and_port(constants.ENDPOINT if config.hf_hub_id else config.url)


def answers(host: str, port: int) -> bool:
    """True when a connection to the server, or to the proxy before it, can be opened within CONNECT_SECONDS."""
    if not urllib.request.proxy_bypass(host):
        proxy = urllib.request.getproxies().get("https")
        host, port = _host_and_port(proxy) if proxy else (host, port)
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else HTTPS_PORT)
