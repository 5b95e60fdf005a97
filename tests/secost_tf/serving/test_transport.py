"""Addresses, and the way that each of them leads."""

import sys

import pytest

from secost_tf.serving.transport import connect


def needs(package: str) -> None:
    pytest.importorskip(package, reason="the extra `serving` is not installed")


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("localhost:8501", "http://localhost:8501"),
        ("host.example:80", "http://host.example:80"),
        ("https://host:443", "https://host:443"),
        ("https://host", "https://host:8501"),
        ("[::1]:8501", "http://[::1]:8501"),
    ],
)
def test_an_address_of_rest(server, url):
    needs("requests")
    assert connect(server, "secost")._url == f"{url}/v1/models/secost:predict"
    assert connect(server, "secost", 3)._url == f"{url}/v1/models/secost/versions/3:predict"


@pytest.mark.parametrize(
    ("server", "address"),
    [("localhost:8500", "localhost:8500"), ("grpc://h:8501", "h:8501"), ("grpcs://h", "h:8500")],
)
def test_an_address_of_grpc(server, address):
    needs("tensorflow_serving")
    assert connect(server, "secost")._address == address


@pytest.mark.parametrize(
    "server", ["localhost", "host:", ":8501", "host:99999", "ftp://host:1", "http://host:1/v1", ""]
)
def test_what_is_no_address(server):
    with pytest.raises(
        ValueError, match=r"server: expected host:8501 \(REST\) or host:8500 \(gRPC\).*got "
    ):
        connect(server, "secost")


@pytest.mark.parametrize(
    ("server", "module", "package"),
    [
        ("host:8501", "rest_transport", "requests"),
        ("host:8500", "grpc_transport", "tensorflow_serving.apis"),
    ],
)
def test_without_the_extra(server, module, package, monkeypatch):
    monkeypatch.delitem(sys.modules, f"secost_tf.serving.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError, match=r"needs the extra serving .*pip install 'secost_tf\[serving\]'"
    ):
        connect(server, "secost")
