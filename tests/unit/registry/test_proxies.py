"""Which proxy a registry is reached through."""

import pytest
from boxshipd.registry.errors import RegistryError
from boxshipd.registry.proxies import Proxies
from yarl import URL

PROXIES = Proxies(http_proxy="plain.example:3128", https_proxy="http://u:p@secure.example:3128")


def test_each_scheme_has_its_own():
    assert PROXIES.for_url(URL("http://r.example/v2/")) == URL("http://plain.example:3128")
    assert PROXIES.for_url(URL("https://r.example/v2/")) == URL("http://u:p@secure.example:3128")
    assert PROXIES.masked().https_proxy == "http://xxxxx:xxxxx@secure.example:3128"


@pytest.mark.parametrize(
    ("exceptions", "url", "direct"),
    [
        ("r.example", "https://r.example", True), ("r.example", "https://sub.r.example", True), (".r.example", "https://r.example", False),
        (".r.example", "https://a.r.example", True), ("*.r.example", "https://a.r.example", True), ("example", "https://notexample", False),
        ("10.0.0.0/8", "https://10.2.3.4", True), ("10.0.0.0/8", "https://11.2.3.4", False), ("10.1.1.1", "https://10.1.1.1:5000", True),
        ("r.example:5000", "https://r.example:5000", True), ("r.example:5000", "https://r.example", False), ("*", "https://r.example", True),
        ("", "https://127.0.0.1:5000", True), ("", "http://localhost", True), ("", "https://[::1]:5000", True), (" a , r.example ", "http://r.example", True),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000", True), ("2001:db8::1", "https://[2001:db8::1]", True),
    ],
)  # fmt: skip
def test_what_is_reached_directly(exceptions, url, direct):
    proxies = Proxies(http_proxy="http://p.example", https_proxy="http://p.example", no_proxy=exceptions)
    assert (proxies.for_url(URL(url)) is None) is direct


def test_the_environment_says_what_is_not_set():
    environment = {"HTTP_PROXY": "http://env.example", "https_proxy": "http://small.example", "NO_PROXY": "x"}
    proxies = Proxies(http_proxy="http://own.example").over(environment)
    assert proxies == Proxies(http_proxy="http://own.example", https_proxy="http://small.example", no_proxy="x")


def test_a_proxy_that_is_none():
    with pytest.raises(RegistryError, match="invalid proxy address"):
        Proxies(http_proxy="socks5://x").for_url(URL("http://r.example"))
