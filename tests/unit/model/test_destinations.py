"""Nothing is sent to where only the platform can reach, however that is written."""

from __future__ import annotations

import ipaddress

import pytest

from sandgraph.errors import InvalidInput
from sandgraph.model.destinations import Rules, parse_addresses, parse_networks, parse_ports

OPEN = Rules(ports=None, plain=True)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.9.1", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7",
        "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1",
        "2001:db8::1", "2002:7f00:1::1", "2002:a00:1::", "2002:c0a8:101::1", "3fff::1", "5f00::1", "fc00::1", "fd12::1",
        "fe80::1", "fec0::1", "ff02::1", "4000::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    assert Rules().refusal(ipaddress.ip_address(address)) == f"{ipaddress.ip_address(address)} is no public address."


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_what_is_public_is_allowed(address: str) -> None:
    assert Rules().refusal(ipaddress.ip_address(address)) is None


def test_6to4_is_judged_by_what_is_inside_it() -> None:
    assert Rules().refusal(ipaddress.ip_address("2002:808:808::1")) is None


def test_an_operators_networks_are_allowed_in_each_form_and_nothing_else_is() -> None:
    rules = Rules(parse_networks("10.1.0.0/16, fd00::/8"))
    for inside in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5"):
        assert rules.refusal(ipaddress.ip_address(inside)) is None
    for outside in ("10.2.0.1", "127.0.0.1", "fe80::1"):
        assert rules.refusal(ipaddress.ip_address(outside)) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://2130706433/", "https://0x7f000001/",
        "https://0177.0.0.1/", "https://127.1/", "https://0x7f.1/", "https://127.0.0.1./", "https://0/",
        "https://1.2.3.4.5/",
        "https://user@example.com/", "https://user:secret@example.com/", "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/", "https://example.com\t.evil/", " https://example.com/",
        "https://exa mple.com/",
        "https://\uff11\uff12\uff17.0.0.1/", "https://\u24d4xample.com/", "https://b\u00fccher.example/", "https://example.com/\n",
        "https://127%2e0.0.1/", "https://example.com:0/", "https://example.com:/", "https://example.com:99999/",
        "https://example.com:22/", "https://example.com/#here", "https://", "https:///path", "https://-a.example/",
        "https://a..example/", "https://[fe80::1%25eth0]/", "https://[::1", "http://example.com/", "ftp://example.com/",
        "gopher://example.com/", "file:///etc/passwd", "javascript:alert(1)", "example.com", "",
        f"https://{'a' * 64}.example/",
    ],
)  # fmt: skip
def test_a_url_that_leads_elsewhere_or_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Rules().destination(url)
    assert refused.value.problems[0].path == "url"


def test_a_url_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2048"):
        Rules().destination(f"https://example.com/{'a' * 2_048}")


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "authority"),
    [
        ("https://Example.com", "example.com", 443, "/", "example.com"),
        ("https://example.com:8443/a%20b?c=d", "example.com", 8443, "/a%20b?c=d", "example.com:8443"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "/", "[2606:4700::1111]"),
        ("HTTPS://a_b.example./x", "a_b.example.", 443, "/x", "a_b.example."),
    ],
)
def test_a_url_is_read(url: str, host: str, port: int, target: str, authority: str) -> None:
    read = Rules().destination(url)
    assert (read.host, read.port, read.target, read.authority) == (host, port, target, authority)


def test_plain_http_and_other_ports_are_for_operators_to_allow() -> None:
    assert OPEN.destination("http://example.com:81/").port == 81
    assert Rules(ports=parse_ports("443, 9000")).destination("https://example.com:9000/").port == 9000
    assert parse_ports("any") is None


def test_an_answer_of_a_resolver_that_is_no_address_is_refused() -> None:
    assert [str(each) for each in parse_addresses(["8.8.8.8", "8.8.8.8", "::1"])] == ["8.8.8.8", "::1"]
    for answer in ("fe80::1%eth0", "nothing"):
        with pytest.raises(ValueError, match="address"):
            parse_addresses([answer])
