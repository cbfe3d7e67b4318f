"""Bad and extreme files, each in a fresh process: refused with its code or embedded, within 300 MB and 2 seconds."""

from __future__ import annotations

import ast
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import translation

from django_visual_search import images
from django_visual_search.images import ImageRefused, load
from django_visual_search.storefront.refusals import refusal_of

from .. import image_files as files
from ..image_cases import CASES, EMBEDDED, Measuring
from ..image_files import encode, png, quadrants


@pytest.fixture(scope="module")
def measuring() -> Iterator[Measuring]:
    with Measuring() as measuring:
        yield measuring


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_refused_or_embedded_within_bounds(name: str, measuring: Measuring) -> None:
    make, expected = CASES[name]
    if "HEIC" in name:
        pytest.importorskip("pi_heif", reason="needs the heic extra")
    outcome, seconds, megabytes = measuring.measure(make())
    assert outcome == expected
    assert megabytes <= 300
    assert seconds <= 2


@pytest.mark.parametrize(
    "name", ["empty", "SVG", "half a JPEG", "1 x 1 PNG", "60000 x 1 JPEG", "colour PNG of 9000 x 9000"]
)
def test_the_message_is_a_sentence_that_says_what_to_do(name: str) -> None:
    make, expected = CASES[name]
    with pytest.raises(ImageRefused) as refusal:
        load(make(), size=32)
    assert refusal.value.code == expected
    assert expected in images.CODES
    sentences = str(refusal.value).split(". ")
    assert len(sentences) >= 2 or "Crop" in sentences[0]
    assert str(refusal.value).endswith(".")


def test_every_code_is_met() -> None:
    met = {code for _, code in CASES.values()} - {EMBEDDED}
    # these have tests of their own
    assert met | {"heic", "crop", "memory", "time"} == set(images.CODES)


def test_wrong_extension_plays_no_part(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(quadrants(), "PNG"))
    with path.open("rb") as file:
        assert load(file, size=32).getpixel((2, 2)) == files.RED


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # makes the import fail as if it were not installed
    with pytest.raises(ImageRefused, match=r"django-visual-search\[heic\]") as refusal:
        load(files.HEIC, size=32)
    assert refusal.value.code == "heic"


def test_out_of_memory_has_its_code(measuring: Measuring) -> None:
    outcome, _, _ = measuring.measure(png(7200, 7200), 200 * 2**20)
    assert outcome == "memory"


def test_every_sentence_is_marked_for_translation() -> None:
    package = Path(images.__file__).parent.parent
    found = []
    for path in [*package.glob("images/*.py"), *package.glob("decoding/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ImageRefused" and len(node.args) > 1:
                found.append(ast.unparse(node.args[1]))
    marked_before = {"thin", "BROKEN_PICTURE", "EMPTY_FILE", "TOO_MUCH_MEMORY", "str(message)"}
    assert {sentence for sentence in found if not sentence.startswith("gettext_noop(")} == marked_before
    assert len(found) > 15


def test_a_refusal_is_shown_in_the_visitors_language(settings, tmp_path) -> None:
    german = "Das Bild hat nur %(width)d x %(height)d Pixel, nötig sind %(least)d."
    with pytest.raises(ImageRefused) as refusal:
        load(png(1, 1), size=32)
    catalogue(tmp_path / "de" / "LC_MESSAGES" / "django.mo", {refusal.value.message: german})
    settings.LOCALE_PATHS = [str(tmp_path)]
    with translation.override("de"):
        assert refusal_of(refusal.value).sentence == "Das Bild hat nur 1 x 1 Pixel, nötig sind 8."
    with translation.override("en"):
        assert refusal_of(refusal.value).sentence == str(refusal.value)


def catalogue(path: Path, texts: dict[str, str]) -> None:
    """Write a compiled catalogue of gettext."""
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", **texts}
    pairs = [(english.encode(), other.encode()) for english, other in sorted(texts.items())]
    tables, data, start = [b"", b""], b"", 28 + 16 * len(pairs)
    for side in (0, 1):
        for pair in pairs:
            tables[side] += struct.pack("<II", len(pair[side]), start + len(data))
            data += pair[side] + b"\0"
    path.parent.mkdir(parents=True)
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    path.write_bytes(head + tables[0] + tables[1] + data)
