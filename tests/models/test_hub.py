import socket
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from edgevit.models import hub


def weights(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"hf_hub_id": None, "url": None, **fields})


@pytest.fixture
def server() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_listening_server_answers_and_a_closed_port_does_not(server: tuple[str, int]) -> None:
    assert hub.answers(*server)
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()
    assert not hub.answers(*closed)


def test_behind_a_proxy_it_is_the_proxy_that_must_answer(
    monkeypatch: pytest.MonkeyPatch, server: tuple[str, int]
) -> None:
    host, port = server
    monkeypatch.setenv("https_proxy", f"http://{host}:{port}")
    assert hub.answers("hub.invalid", 443)
    monkeypatch.setenv("no_proxy", "hub.invalid")
    assert not hub.answers("hub.invalid", 443)


def test_without_network_the_client_reads_its_cache_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub.without_network():
        assert hub.is_offline()
        assert constants.is_offline_mode()
    assert not hub.is_offline()


def test_the_client_is_online_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match="inside"), hub.without_network():
        raise ValueError("inside")
    assert not hub.is_offline()


def test_weights_come_from_the_hub_or_from_their_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.local:8080")
    assert hub.weights_server(weights(hf_hub_id="timm/x")) == ("mirror.local", 8080)
    assert hub.weights_server(weights(url="https://example.org/a/b.pth")) == ("example.org", 443)
    assert hub.weights_server(weights(url="http://example.org/b.pth")) == ("example.org", 80)


def test_a_bare_address_is_cached_once_its_file_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(hub.torch.hub, "get_dir", lambda: str(tmp_path))
    config = weights(url="https://example.org/a/b.pth")
    assert not hub.may_be_cached(config)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "b.pth").touch()
    assert hub.may_be_cached(config)
    assert hub.may_be_cached(weights(hf_hub_id="timm/x"))
