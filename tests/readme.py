"""The README's code blocks, so that tests do what it says."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(section, language):
    """The code blocks in that language of a section (``## section``) and its subsections, in their order."""
    found, heading, block = [], None, None
    for line in README.read_text().splitlines():
        if line.startswith("```"):
            if block is not None and heading == section and block[0] == language:
                found.append("".join(f"{line}\n" for line in block[1:]))
            block = [line.removeprefix("```")] if block is None else None
        elif block is not None:
            block.append(line)
        elif line.startswith("## "):
            heading = line.removeprefix("## ")
    return found


def files(section):
    """(path, text) of a section's Python blocks that begin with a comment that names their file."""
    for block in blocks(section, "python"):
        first, _, rest = block.partition("\n")
        if named := re.fullmatch(r"# (\S+\.py|manage\.py shell)", first):
            yield named[1], rest
