"""Check HEIC and AVIF before a decoder reads them: their few bytes can name the same data, or each other, many times.

Entry function: ``check_heif``. Both are trees of boxes (ISO/IEC 14496-12) with a table of items (ISO/IEC 23008-12): the
picture, its tiles, alpha, thumbnails and metadata.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .formats import MAX_PARTS, BrokenError

MAX_ITEMS = 1000  # as libheif; 108 megapixels in tiles of 512 pixels have 432
MAX_ALIASED = 2  # times the file's size that all items may have together; a writer may share equal tiles
ALIASED_ROOM = 2**20  # bytes of that in small files
MAX_CHAIN = 8  # references from metadata to picture to derived picture to tile; five are usual
MAX_LEAVES = 1000  # pictures decoded for one, each as often as it is referred to

FrameCheck = Callable[[int, int], None]
"""Takes width and height of a frame, and raises ImageRefused if it is too large."""


@dataclass
class _Item:
    kind: bytes = b""
    extents: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) in the file."""
    references: set[int] = field(default_factory=set)
    derived_from: list[int] = field(default_factory=list)


def check_heif(data: bytes, check_frame: FrameCheck) -> None:
    """Raise BrokenError for a file that would make a decoder do the same work many times.

    ``check_frame`` is called with the size of each frame as its codec has it, whatever the boxes around it say.
    """
    view = memoryview(data)
    try:
        items: dict[int, _Item] = {}
        for kind, body in _boxes(view, 0, len(view)):
            if kind == b"meta":
                items = _read_items(view, body, check_frame)
            elif kind == b"moov":
                for chunk in _first_chunks(view, body, 0):
                    _check_av1(view[chunk:], check_frame)
        _check_items(items, len(data))
        for item in items.values():
            if item.kind == b"av01":
                _check_av1(memoryview(b"".join(view[a:b] for a, b in item.extents)), check_frame)
    except (struct.error, IndexError) as error:
        raise BrokenError("a box is cut short") from error


def _boxes(view: memoryview, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield each box's kind and the (start, end) of its content."""
    for _ in range(MAX_PARTS):
        if end - start < 8:
            return
        size, kind = struct.unpack_from(">L4s", view, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, start + 8)
            head = 16
        stop = min(end, start + size) if size else end
        if size and size < head:
            return
        yield kind, (start + head, stop)
        start = stop
    raise BrokenError("too many boxes")


def _read_items(view: memoryview, meta: tuple[int, int], check_frame: FrameCheck) -> dict[int, _Item]:
    items: dict[int, _Item] = {}
    boxes = list(_boxes(view, meta[0] + 4, meta[1]))
    data_start = next((body[0] for kind, body in boxes if kind == b"idat"), 0)
    for kind, (start, end) in boxes:
        if kind == b"iloc":
            _read_locations(view[start:end], data_start, len(view), items)
        elif kind == b"iinf":
            _read_kinds(view, start, end, items)
        elif kind == b"iref":
            _read_references(view, start, end, items)
        elif kind == b"iprp":
            for container, (a, b) in _boxes(view, start, end):
                for prop, (c, d) in _boxes(view, a, b) if container == b"ipco" else ():
                    if prop == b"hvcC":
                        _check_hevc(view[c:d], check_frame)
    return items


def _read_locations(box: memoryview, data_start: int, size: int, items: dict[int, _Item]) -> None:
    """Read the item location box (ISO/IEC 14496-12, section 8.11.3)."""
    version, sizes = box[0], struct.unpack_from(">H", box, 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index_size = index_size if version in (1, 2) else 0
    wide = 4 if version == 2 else 2
    pos = 6

    def number(count: int) -> int:
        nonlocal pos
        if pos + count > len(box):
            raise BrokenError("an item's location is cut short")
        value, pos = int.from_bytes(box[pos : pos + count], "big"), pos + count
        return value

    count = number(wide)
    if count > MAX_ITEMS:
        raise BrokenError("too many items")
    extents = 0
    for _ in range(count):
        item = items.setdefault(number(wide), _Item())
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # data reference
        base = number(base_size) + (data_start if method == 1 else 0)
        for _ in range(number(2)):
            extents += 1
            if extents > MAX_PARTS:
                raise BrokenError("too many extents")
            number(index_size)
            start = base + number(offset_size)
            length = number(length_size)
            if method != 2:  # 2: in another item
                item.extents.append((min(start, size), min(start + length, size) if length else size))


def _read_kinds(view: memoryview, start: int, end: int, items: dict[int, _Item]) -> None:
    """Read the item information box (section 8.11.6)."""
    start += 6 if view[start] == 0 else 8
    for kind, (a, _) in _boxes(view, start, end):
        if kind == b"infe" and view[a] >= 2:
            number, _, name = struct.unpack_from(">HH4s" if view[a] == 2 else ">LH4s", view, a + 4)
            items.setdefault(number, _Item()).kind = name


def _read_references(view: memoryview, start: int, end: int, items: dict[int, _Item]) -> None:
    """Read the item reference box (section 8.11.12)."""
    letter = "H" if view[start] == 0 else "L"
    for kind, (a, b) in _boxes(view, start + 4, end):
        source, count = struct.unpack_from(f">{letter}H", view, a)
        if count > MAX_ITEMS:
            raise BrokenError("too many references")
        targets = struct.unpack_from(f">{count}{letter}", view[:b], a + struct.calcsize(f">{letter}H"))
        item = items.setdefault(source, _Item())
        item.references.update(targets)
        if kind == b"dimg":
            item.derived_from.extend(targets)


def _check_items(items: dict[int, _Item], size: int) -> None:
    if len(items) > MAX_ITEMS:
        raise BrokenError("too many items")
    if sum(b - a for item in items.values() for a, b in item.extents) > MAX_ALIASED * size + ALIASED_ROOM:
        raise BrokenError("items share their data")
    depths: dict[int, int] = {}
    leaves: dict[int, int] = {}

    def visit(number: int, depth: int) -> int:
        """Return the longest chain of references from this item."""
        if depth > MAX_CHAIN:
            raise BrokenError("a chain of references is too long")
        if number not in depths:
            item = items.get(number, _Item())
            depths[number] = 1 + max((visit(target, depth + 1) for target in item.references), default=0)
            leaves[number] = sum(leaves[target] for target in item.derived_from) or 1
        if depth + depths[number] - 1 > MAX_CHAIN or leaves[number] > MAX_LEAVES:
            raise BrokenError("a picture is made of too many others")
        return depths[number]

    for number in items:
        visit(number, 1)


def _first_chunks(view: memoryview, body: tuple[int, int], depth: int) -> Iterator[int]:
    """Yield where the samples of each track begin (sections 8.6 to 8.7)."""
    for kind, (start, end) in _boxes(view, *body):
        if kind in (b"trak", b"mdia", b"minf", b"stbl") and depth < 4:
            yield from _first_chunks(view, (start, end), depth + 1)
        elif kind in (b"stco", b"co64") and struct.unpack_from(">L", view, start + 4)[0]:
            yield struct.unpack_from(">L" if kind == b"stco" else ">Q", view, start + 8)[0]


# The codecs' own sizes


class _Bits:
    def __init__(self, data: bytes | memoryview) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise BrokenError("a header is cut short")
        return self.value >> self.left & (1 << count) - 1

    def skip_if(self, *counts: int) -> bool:
        """Read one bit; if it is 1, skip so many more."""
        present = bool(self.read(1))
        for count in counts if present else ():
            self.read(count)
        return present

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise BrokenError("a number is too long")
        return (1 << zeros) - 1 + self.read(zeros)


SEQUENCE_HEADER = 1
LONGEST_HEADER = 1024  # bytes; with 32 operating points it has fewer than 300


def _check_av1(stream: memoryview, check_frame: FrameCheck) -> None:
    """Check the size in every sequence header (AV1 bitstream specification, section 5.3); stop at any other data."""
    pos = 0
    for _ in range(MAX_PARTS):
        if pos >= len(stream) or stream[pos] & 0x80:
            return
        head = stream[pos]
        pos += 2 if head & 4 else 1
        size = len(stream) - pos
        if head & 2:
            size = shift = 0
            while pos < len(stream) and shift < 56:
                size |= (stream[pos] & 0x7F) << shift
                shift, pos = shift + 7, pos + 1
                if stream[pos - 1] < 0x80:
                    break
        if head >> 3 & 15 == SEQUENCE_HEADER:
            check_frame(*_av1_size(_Bits(stream[pos : pos + min(size, LONGEST_HEADER)])))
        pos += size
    raise BrokenError("too many units")


def _av1_size(bits: _Bits) -> tuple[int, int]:
    """Return (width, height) of a sequence header (section 5.5.1)."""
    bits.read(4)
    if bits.read(1):  # a still picture's short form
        bits.read(5)
    else:
        delay = 0
        has_model = False
        if bits.read(1):
            bits.read(64)
            if bits.read(1):
                bits.exp_golomb()
            if has_model := bool(bits.read(1)):
                delay = bits.read(5) + 1
                bits.read(42)
        has_display_delay = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if has_model:
                bits.skip_if(delay, delay, 1)
            if has_display_delay:
                bits.skip_if(4)
    wide, high = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(wide) + 1, bits.read(high) + 1


SPS = 33


def _check_hevc(config: memoryview, check_frame: FrameCheck) -> None:
    """Check the size in every sequence parameter set of a decoder configuration (ISO/IEC 14496-15, section 8.3.3.1)."""
    pos = 23
    for _ in range(config[22]):
        kind, (count,) = config[pos] & 63, struct.unpack_from(">H", config, pos + 1)
        pos += 3
        for _ in range(count):
            (size,) = struct.unpack_from(">H", config, pos)
            if kind == SPS:
                check_frame(*_hevc_size(bytes(config[pos + 2 : pos + 2 + size])))
            pos += 2 + size


def _hevc_size(unit: bytes) -> tuple[int, int]:
    """Return (width, height) of a sequence parameter set (ITU-T H.265, section 7.3.2.2)."""
    # Behind two zeros a 3 was put in, so that no start code appears.
    bits = _Bits(unit[2:LONGEST_HEADER].replace(b"\0\0\3", b"\0\0"))
    bits.read(4)
    layers = bits.read(3)
    bits.read(1 + 96)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    bits.read(2 * (8 - layers) if layers else 0)
    for has_profile, has_level in present:
        bits.read(88 * has_profile + 8 * has_level)
    bits.exp_golomb()
    if bits.exp_golomb() == 3:
        bits.read(1)
    return bits.exp_golomb(), bits.exp_golomb()
