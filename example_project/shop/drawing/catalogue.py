"""The shop's products: names, prices and looks, the same on every machine. Entry function: ``catalogue``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from .design import Design
from .kinds import KINDS
from .palette import COLOURS, luminance

PER_KIND = 21
SERIES = (
    "Alba",
    "Arno",
    "Birk",
    "Cala",
    "Dune",
    "Elm",
    "Fjord",
    "Gilda",
    "Halo",
    "Isla",
    "Juno",
    "Kvist",
    "Lido",
    "Mira",
    "Nova",
    "Onda",
    "Pilar",
    "Quill",
    "Rive",
    "Sol",
    "Tove",
    "Una",
    "Vale",
    "Wren",
    "Yarrow",
    "Zephyr",
    "Ascot",
    "Bruna",
    "Cove",
    "Delta",
    "Ember",
    "Faro",
)
STORIES = (
    "Made in small runs, so no two are quite alike.",
    "A favourite of ours since the first year.",
    "Designed to be repaired rather than replaced.",
    "Goes with almost everything, and gets along with the rest.",
    "New this season.",
)


@dataclass(frozen=True)
class Item:
    sku: str
    name: str
    category: str
    brand: str
    price: Decimal
    stock: int
    description: str
    design: Design
    photos: int
    """Number of additional pictures."""


def catalogue(per_kind: int = PER_KIND) -> Iterator[Item]:
    for kind in KINDS:
        designs: set[tuple[str, ...]] = set()
        number = attempt = 0
        while number < per_kind:
            attempt += 1
            rng = Random(f"{kind} {attempt}")
            design = _design(kind, number, rng)
            look = (design.form, design.colour, design.second, str(design.pattern))
            if look in designs:
                continue
            designs.add(look)
            number += 1
            yield _item(kind, number, design, rng)


def _design(kind: str, number: int, rng: Random) -> Design:
    made = KINDS[kind]
    form = list(made.forms)[number % len(made.forms)]
    colour = rng.choice(list(COLOURS))
    # Two colours without contrast look like a misprint
    others = [name for name, value in COLOURS.items() if abs(luminance(value) - luminance(COLOURS[colour])) > 45]
    pattern = rng.choice(made.patterns) if rng.random() < 0.5 else None
    return Design(kind, form, colour, rng.choice(others), pattern, rng.choice(made.materials), f"{kind} {number}")


def _item(kind: str, number: int, design: Design, rng: Random) -> Item:
    made = KINDS[kind]
    low, high = made.price
    # Most are cheap and a few expensive; shops like prices that end in 9 or .50
    price = low + (high - low) * rng.random() ** 2
    amount = Decimal(round(price / 10) * 10 - 1) if price > 60 else Decimal(round(price * 2)) / 2
    noun = made.forms[design.form]
    thing = " pot" if kind == "plant" else ""  # a plant is green; what has the colour is its pot
    colours = (f"{design.colour} & {design.second}" if design.pattern else design.colour) + thing
    look = f"{design.pattern} {noun}" if design.pattern and not thing else noun
    sentence = f"{look[0].upper()}{look[1:]} in {colours.lower()}."
    series = SERIES[(number * 7 + len(kind) * 5) % len(SERIES)]
    return Item(
        sku=f"{kind[:3].upper()}-{number:03d}",
        name=f"{series} {look}, {colours}",
        category=made.category,
        brand=rng.choice(made.brands),
        price=amount,
        stock=rng.choice([0, 2, 3, 5, 8, 12, 20, 35, 60, 120]),
        description=f"{sentence} {made.text.format(material=design.material)} {rng.choice(STORIES)}",
        design=design,
        photos=2 if number % 6 == 0 else 1 if number % 3 == 0 else 0,
    )
