import pytest
from maskport.serving.client import InvalidAddressError
from maskport.serving.client.transport.addresses import Address, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("grpc://host:9000", Address("grpc", "host", 9000)),
        ("grpc://host", Address("grpc", "host", 8500)),
        ("grpcs://host", Address("grpcs", "host", 443)),
        ("http://host:8501", Address("http", "host", 8501)),
        ("http://host", Address("http", "host", 80)),
        ("https://host/models/", Address("https", "host", 443, "/models")),
        ("grpc://[::1]:8500", Address("grpc", "::1", 8500)),
        ("unix:///run/serving.sock", Address("unix", path="/run/serving.sock")),
    ],
)
def test_addresses_are_read(text, address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "host:8500", "ftp://host", "grpc://", "grpc://host:0", "grpc://host:port", "grpc://host:70000", "",
        "grpc://host/path", "http://user:pw@host", "http://host?a=b", "unix://relative", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_forms_there_are(text):
    with pytest.raises(InvalidAddressError, match=r"grpc://|unix:///|gRPC addresses"):
        parse_addresses(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("localhost:8500", "write grpc://localhost:8500, or http:// where that port speaks REST"),
        ("localhost:8501", "write http://localhost:8501, or grpc:// where that port speaks gRPC"),
        ("10.0.0.7:9000", "write grpc://10.0.0.7:9000, or http://"),
        ("[::1]:8501/v1/models/a", "write http://[::1]:8501, or grpc://"),
        ("localhost", "it is grpc://HOST:PORT"),
        ("http:/localhost:8501", "it is grpc://HOST:PORT"),
        ("http://host:8501/v1/models/coins:predict", "write http://host:8501, and name the model beside it"),
        ("http://host:8501/v1/models/coins/versions/3/metadata", "write http://host:8501, and name the model"),
        ("http://host:8501/v1/models/coins/", "write http://host:8501, and name the model"),
        ("https://host/prefix/v1/models/a:predict", "write https://host/prefix, and name the model"),
        ("grpc://host:8500/v1/models/coins", "write grpc://host:8500"),
    ],
)
def test_near_misses_are_told_what_is_meant(text, hint):
    with pytest.raises(InvalidAddressError) as error:
        parse_address(text)
    assert hint in error.value.hint


def test_schemes_may_be_in_capitals():
    assert parse_address("HTTP://Host:8501") == Address("http", "host", 8501)


@pytest.mark.parametrize("address", [None, 5, b"grpc://host", ["grpc://host", None]])
def test_what_is_no_text_is_no_address(address):
    with pytest.raises(InvalidAddressError, match=r"^address .* is no text; it is grpc://"):
        parse_addresses(address)


def test_grpc_knows_addresses_by_names_of_its_own():
    assert parse_address("grpc://[::1]:1").grpc_target == "dns:///[::1]:1"
    assert parse_address("unix:///a/b").grpc_target == "unix:/a/b"


def test_several_addresses_come_in_a_list_or_with_commas():
    wanted = (Address("grpc", "a", 1), Address("grpc", "b", 2))
    assert parse_addresses("grpc://a:1,grpc://b:2") == wanted
    assert parse_addresses(["grpc://a:1", "grpc://b:2", "grpc://a:1"]) == wanted


def test_grpc_and_rest_do_not_mix():
    with pytest.raises(InvalidAddressError, match="mix gRPC and REST"):
        parse_addresses("grpc://a,http://b")


@pytest.mark.parametrize(
    ("text", "secure", "local"),
    [
        ("grpc://host", False, False),
        ("grpcs://host", True, False),
        ("https://host", True, False),
        ("http://localhost", False, True),
        ("grpc://127.0.0.1", False, True),
        ("grpc://[::1]", False, True),
        ("unix:///s", False, True),
    ],
)
def test_what_may_carry_secrets_is_known(text, secure, local):
    address = parse_address(text)
    assert (address.is_secure, address.stays_on_this_machine) == (secure, local)
