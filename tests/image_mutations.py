"""``python -m tests.image_mutations [COUNT]``: decode mutated picture files as a photo search does.

The files are small ones of every format and the small ones of ``image_cases``, with bytes changed, cut out, repeated or
taken from another. Prints the outcomes, and the most processor time and memory; fails where a decoding process crashed,
or took longer than a search may.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_visual_search.conf import conf  # noqa: E402
from django_visual_search.decoding.decoder import Decoder, decode_settings  # noqa: E402
from django_visual_search.images import ImageOptions  # noqa: E402

from .image_cases import CASES, EMBEDDED  # noqa: E402
from .image_files import HEIC, encode, quadrants  # noqa: E402

SMALL = 60_000
"""Bytes of the largest file that is mutated: a change of a larger one is rarely in a header."""


def seeds() -> list[bytes]:
    """Return the files to mutate."""
    kinds = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")
    files = [encode(quadrants(160, 120), kind) for kind in kinds]
    files += [encode(quadrants(160, 120), "JPEG", progressive=True), HEIC]
    made = (make() for name, (make, _) in CASES.items() if "megapixel" not in name)
    return files + [data for data in made if 0 < len(data) < SMALL]


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return the file with one to eight changes."""
    body = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at, length = chance.randrange(len(body) or 1), chance.choice((1, 2, 4, 16, 200))
        match chance.randrange(6):
            case 0:
                body[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                body[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
            case 2:
                del body[at : at + length]
            case 3:
                body[at:at] = body[at : at + length] * chance.choice((1, 2, 50))
            case 4:
                other = chance.choice(others)
                start = chance.randrange(len(other))
                body[at : at + length] = other[start : start + length]
            case _:
                del body[at:]
        if not body:
            break
    return bytes(body)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    chance, files, decoder = random.Random(0), seeds(), Decoder()
    settings = decode_settings(ImageOptions(), 224, 10 * conf.DECODE_SECONDS)
    outcomes: Counter[str] = Counter()
    dearest, most, started, faults = 0.0, 0.0, 0, []
    for number in range(count):
        data = mutated(chance.choice(files), files, chance)
        before = decoder.process and decoder.process.pid
        used = clock(before) if before else 0
        [found] = decoder.decode([lambda data=data: data], settings)
        outcome = getattr(found, "code", type(found).__name__) if isinstance(found, Exception) else EMBEDDED
        outcomes[outcome] += 1
        pid = decoder.process and decoder.process.pid
        if pid and pid == before:
            dearest, most = max(dearest, clock(pid) - used), max(most, memory(pid))
        elif before is not None:
            started += 1
            faults.append((number, outcome, len(data)))
    print(f"{count} files from {len(files)}: {', '.join(f'{n} {code}' for code, n in outcomes.most_common())}")
    print(f"at most {dearest:.2f} s of processor and {most:.0f} MB; {started} processes ended: {faults}")
    decoder.stop()
    sys.exit(bool(faults))


def clock(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if "VmHWM" in line) / 1024


if __name__ == "__main__":
    main()
