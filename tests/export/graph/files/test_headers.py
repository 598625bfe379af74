"""What the graph reads of headers, beside Pillow and the client."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.files import headers
from maskport.serving.client.pictures.files.headers import read_header
from PIL import Image, PngImagePlugin

_SHORT, _LONG = 3, 4


@pytest.fixture(scope="module")
def orientation_in_graph():
    read = tf.function(
        lambda data: headers.read_header(data).orientation, input_signature=[tf.TensorSpec([], tf.string)]
    )
    return lambda data: int(read(data))


def _exif(order, kind, value, tag=0x0112):
    endian = "little" if order == b"II" else "big"
    number = value.to_bytes(2 if kind == _SHORT else 4, endian).ljust(4, b"\0")
    fields = ((42, 2), (8, 4), (1, 2), (tag, 2), (kind, 2), (1, 4))
    return b"".join([b"Exif\0\0", order, *(field.to_bytes(size, endian) for field, size in fields), number, bytes(4)])


def _xmp(text):
    return b'<?xpacket begin="\xef\xbb\xbf"?><x:xmpmeta><rdf:Description %b</x:xmpmeta>' % text


EXIFS = [b"", _exif(b"MM", _SHORT, 7, tag=0x0111)] + [
    _exif(order, kind, value)
    for order, kind, value in itertools.product((b"II", b"MM"), (_SHORT, _LONG), (0, 1, 3, 6, 9))
]
XMPS = [
    b"",
    _xmp(b'tiff:Orientation="6"/>'),
    _xmp(b"><tiff:Orientation>8</tiff:Orientation>"),
    _xmp(b"tiff:Orientation='6'/>"),
    _xmp(b'tiff:Orientation="9"/>'),
    _xmp(b'about="tiff:Orientation" tiff:Orientation="3"/>'),
    _xmp(b'about="' + b"x" * 60_000 + b'" tiff:Orientation="5"/>'),
]


def _saved(kind, exif, xmp):
    options = {"exif": exif} if exif else {}
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        if xmp:
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp:
        options["xmp"] = xmp
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_turned_as_by_pillow(kind, orientation_in_graph):
    """Exif in both byte orders and number types, XMP as attribute and element, and both at once."""
    seen = set()
    for exif, xmp in itertools.product(EXIFS, XMPS):
        file = _saved(kind, exif, xmp)
        with Image.open(io.BytesIO(file)) as picture:
            stated = picture.getexif().get(0x0112, 1)
        wanted = stated if stated in range(1, 9) else 1
        assert (orientation_in_graph(file), read_header(file).orientation) == (wanted, wanted), (exif, xmp)
        seen.add(wanted)
    assert seen == {1, 3, 5, 6, 8}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_graph_and_client_agree_on_damaged_headers_too(kind, orientation_in_graph):
    random = np.random.default_rng(1)
    for exif in (b"", EXIFS[3]):
        whole = _saved(kind, exif, XMPS[1])
        for _ in range(60):
            file = bytearray(whole)
            for _ in range(random.integers(1, 6)):
                file[random.integers(12, min(len(file), 260))] = random.integers(256)
            cut = bytes(file[: random.integers(20, len(file) + 1)])
            found = read_header(cut)
            assert orientation_in_graph(cut) == (found.orientation if found else 1), cut


def test_xmp_that_is_not_utf_8_is_read():
    xmp = b"\xff\xfe\x80" + XMPS[1]
    assert int(headers.read_header(_saved("WEBP", b"", xmp)).orientation) == 6
