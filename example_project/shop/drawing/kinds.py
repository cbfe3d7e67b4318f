"""The kinds of products: category, forms, prices and brands of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import carry, furniture, gadgets, green, hats, kitchen, wear
from .canvas import Canvas
from .design import Design

HOME = ("Nordhavn", "Casa Olmo", "Kiln & Thistle", "Oda Studio", "Marlow Home")
WEAR = ("Tern & Tide", "Larkspur", "Hollis Reed", "Pico", "Fernweh Supply")
TECH = ("Auralis", "Minuta", "Brightwater", "Tinker Row")
WOOD = ("oak", "walnut", "beech")
METAL = ("steel", "brass", "black")
ALL = ("striped", "banded", "dotted", "checked", "diagonal", "zigzag", "speckled", "colour-block")


@dataclass(frozen=True)
class Kind:
    category: str
    draw: Callable[[Canvas, Design], None]
    forms: dict[str, str]
    """Form of the drawing -> noun in the product's name."""
    price: tuple[int, int]
    brands: tuple[str, ...]
    text: str
    """A sentence of the description, with ``{material}`` to fill in."""
    materials: tuple[str, ...] = METAL
    patterns: tuple[str, ...] = field(default=ALL)


KINDS: dict[str, Kind] = {
    "mug": Kind(
        "Mugs",
        kitchen.mug,
        {
            "straight": "mug",
            "tapered": "latte mug",
            "round": "belly mug",
            "enamel": "enamel mug",
            "espresso": "espresso cup",
        },
        (9, 28),
        HOME,
        "Thrown stoneware with a handle for the whole hand; dishwasher safe.",
    ),
    "bottle": Kind(
        "Bottles",
        kitchen.bottle,
        {"slim": "bottle", "flask": "flask", "sport": "sport bottle"},
        (16, 42),
        ("Brightwater", "Fernweh Supply", "Pico"),
        "Double-walled, keeps cold for a day and hot for twelve hours. Cap in {material} finish.",
    ),
    "teapot": Kind(
        "Teapots",
        kitchen.teapot,
        {"round": "teapot", "tall": "tall teapot", "bamboo": "teapot with arched handle"},
        (34, 89),
        HOME,
        "Pours without a drip and holds four cups; with a strainer.",
        ("oak", "walnut", "brass", "black"),
    ),
    "vase": Kind(
        "Vases",
        green.vase,
        {"bud": "bud vase", "amphora": "amphora vase", "cylinder": "cylinder vase", "jug": "jug vase"},
        (18, 96),
        HOME,
        "Glazed by hand, watertight, and good to look at when empty.",
        patterns=("banded", "striped", "dotted", "checked", "zigzag", "speckled", "colour-block"),
    ),
    "plant": Kind(
        "Plants",
        green.plant,
        {"monstera": "monstera", "snake": "snake plant", "cactus": "cactus", "fern": "fern", "rubber": "rubber plant"},
        (14, 72),
        ("Fernweh Supply", "Kiln & Thistle", "Green Sill"),
        "Grown slowly, delivered in the pot shown. Bright shade, little water.",
        patterns=tuple(name for name in ALL if name != "colour-block"),  # its border would miss the pot
    ),
    "chair": Kind(
        "Chairs",
        furniture.chair,
        {"slatted": "ladder-back chair", "shell": "shell chair", "upholstered": "dining chair", "stool": "stool"},
        (79, 340),
        HOME,
        "Legs in {material}; a seat for long dinners.",
        (*WOOD, "black", "steel"),
    ),
    "sofa": Kind(
        "Sofas",
        furniture.sofa,
        {"three": "three-seat sofa", "loveseat": "loveseat", "armchair": "armchair", "curved": "curved sofa"},
        (390, 2190),
        HOME,
        "Hardwood frame, feet in {material}, covers that come off and go in the wash.",
        (*WOOD, "black", "brass"),
        ("striped", "checked", "zigzag", "speckled", "dotted"),
    ),
    "lamp": Kind(
        "Lamps",
        furniture.lamp,
        {
            "cone": "table lamp",
            "drum": "drum lamp",
            "globe": "globe lamp",
            "arc": "arc lamp",
            "ceramic": "ceramic lamp",
        },
        (39, 229),
        HOME,
        "Warm, dimmable light; fittings in {material}.",
        (*METAL, "oak", "walnut", "copper"),
    ),
    "sneaker": Kind(
        "Sneakers",
        wear.sneaker,
        {"low": "sneaker", "high": "high-top", "runner": "runner"},
        (59, 165),
        WEAR,
        "Canvas upper, natural rubber sole, and laces that stay tied.",
    ),
    "tshirt": Kind(
        "T-shirts",
        wear.tshirt,
        {"crew": "T-shirt", "v": "V-neck T-shirt", "long": "long-sleeve T-shirt"},
        (19, 59),
        WEAR,
        "Heavy organic cotton, washed once so that it fits the same ever after.",
    ),
    "cap": Kind(
        "Hats",
        hats.cap,
        {"baseball": "cap", "bucket": "sun hat", "beanie": "beanie"},
        (17, 49),
        WEAR,
        "One size that adjusts; folds flat into a pocket.",
    ),
    "backpack": Kind(
        "Backpacks",
        carry.backpack,
        {"school": "daypack", "roll": "roll-top backpack", "flap": "rucksack"},
        (49, 189),
        ("Fernweh Supply", "Pico", "Hollis Reed"),
        "Waxed cotton, padded for a laptop; buckles in {material}.",
    ),
    "handbag": Kind(
        "Handbags",
        carry.handbag,
        {"tote": "tote", "satchel": "satchel", "clutch": "clutch", "bucket": "bucket bag"},
        (39, 320),
        WEAR,
        "Room for a book and an apple; brass clasp, cotton lining.",
    ),
    "watch": Kind(
        "Watches",
        gadgets.watch,
        {"round": "watch", "square": "square watch", "digital": "smart watch"},
        (69, 420),
        TECH,
        "Case in {material}, mineral glass, a strap that changes without a tool.",
        (*METAL, "copper"),
        ("striped", "banded", "dotted", "diagonal", "zigzag", "colour-block"),
    ),
    "headphones": Kind(
        "Headphones",
        gadgets.headphones,
        {"over": "over-ear headphones", "on": "on-ear headphones"},
        (49, 349),
        TECH,
        "Thirty hours on a charge, soft pads, and a cable for when that is over.",
        (*METAL, "oak", "copper"),
        ("banded", "dotted", "checked", "diagonal", "speckled"),
    ),
    "sunglasses": Kind(
        "Sunglasses",
        gadgets.sunglasses,
        {
            "round": "round sunglasses",
            "square": "square sunglasses",
            "cat": "cat-eye sunglasses",
            "aviator": "aviators",
        },
        (29, 179),
        WEAR,
        "Acetate frame, full UV protection, spring hinges.",
        ("brass", "steel", "black", "copper"),
        ("speckled", "diagonal", "checked"),
    ),
}
