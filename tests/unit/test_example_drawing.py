"""The drawn catalogue: the same on every machine, varied and complete."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from example_project.shop.drawing.catalogue import catalogue
from example_project.shop.drawing.design import Design
from example_project.shop.drawing.kinds import KINDS
from example_project.shop.drawing.patterns import pattern
from example_project.shop.drawing.scenes import SCENES, photo, studio
from example_project.shop.drawing.shapes import SIZE
from example_project.shop.drawing.sheet import contact_sheet
from example_project.shop.drawing.write import cutout

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ITEMS = list(catalogue())


def test_catalogue_is_large_varied_and_unambiguous():
    assert len(ITEMS) >= 300
    assert len({item.category for item in ITEMS}) >= 10
    for part in ("sku", "name"):
        assert len({getattr(item, part) for item in ITEMS}) == len(ITEMS), part
    for item in ITEMS:
        low, high = KINDS[item.design.kind].price
        assert low - 10 <= item.price <= high + 10
        assert item.price == round(item.price, 2)
        assert "{" not in item.description
    assert any(item.stock == 0 for item in ITEMS)
    assert any(item.photos == 2 for item in ITEMS)


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind, made in KINDS.items() for form in made.forms])
def test_every_form_can_be_drawn_plain_and_patterned(kind, form):
    for name in (None, KINDS[kind].patterns[0]):
        design = Design(kind, form, "Teal", "Ivory", name, KINDS[kind].materials[0], "test")
        alpha = np.asarray(cutout(design).getchannel("A"))
        assert 0.03 < (alpha > 128).mean() < 0.8
        assert alpha[0].max() == alpha[-1].max() == 0, "it touches the border"


def test_unknown_pattern():
    with pytest.raises(KeyError):
        pattern("plaid", ITEMS[0].design.rng)


@pytest.mark.parametrize("kind", ["mug", "sunglasses"])
def test_designs_of_a_kind_look_different(kind):
    designs = [item.design for item in ITEMS if item.design.kind == kind]
    assert len({cutout(design).tobytes() for design in designs}) == len(designs)


def test_a_twig_stands_in_its_vase_and_has_room_above():
    bud = Design("vase", "bud", "Snow", "Navy", None, "steel", "vase 1")
    looks = [np.asarray(cutout(bud.like(seed=f"vase {n}")), int) for n in range(12)]
    empty = min(looks, key=lambda look: (look[..., 3] > 0).sum())
    painted = [np.flatnonzero(np.abs(look - empty).max((1, 2)) > 8) for look in looks]
    twigs = [rows for rows in painted if len(rows)]
    assert 3 <= len(twigs) < 11
    for rows in twigs:
        assert rows[0] > 0.02 * SIZE, "cut at the top"
        assert rows[-1] > 0.22 * SIZE, "cut at the rim instead of standing in the mouth"


@pytest.mark.parametrize("form", KINDS["tshirt"].forms)
def test_prints_stay_on_the_chest(form):
    plain = Design("tshirt", form, "Forest", "Poppy", None, "steel", "")
    for n in range(6):
        look = np.asarray(cutout(plain.like(seed=f"tshirt {n}")), int)
        assert look[: int(0.14 * SIZE), :, 3].max() == 0, "something above the shoulders"
        sleeves = look[int(0.3 * SIZE) : int(0.75 * SIZE), : int(0.26 * SIZE)]
        red = (sleeves[..., 3] > 128) & (sleeves[..., 0] > sleeves[..., 1])
        assert not red.any(), f"a print on a sleeve, seed {n}"


def test_same_picture_in_another_process():
    program = (
        "import hashlib\n"
        "from example_project.shop.drawing.catalogue import catalogue\n"
        "from example_project.shop.drawing.scenes import photo, studio\n"
        "from example_project.shop.drawing.write import cutout\n"
        "product = cutout(next(catalogue()).design)\n"
        "print(hashlib.sha256(studio(product, 'a').tobytes() + photo(product, 'a').tobytes()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    product = cutout(ITEMS[0].design)
    assert (
        hashlib.sha256(studio(product, "a").tobytes() + photo(product, "a").tobytes()).hexdigest()
        == done.stdout.strip()
    )


@pytest.mark.parametrize("scene", SCENES)
def test_photo_shows_the_product_elsewhere(scene):
    product = cutout(ITEMS[0].design)
    shop, taken = np.asarray(studio(product, "a"), float), np.asarray(photo(product, "a", scene), float)
    assert taken.shape == shop.shape
    assert np.abs(taken - shop).mean() > 8
    assert not np.array_equal(taken, np.asarray(photo(product, "b", scene), float))


def test_contact_sheet_has_room_for_every_row():
    square = cutout(ITEMS[0].design)
    sheet = contact_sheet(
        [[(square, "one\ntwo")] * 3, [(square, "a name that is much longer than its cell is wide")]], cell=100
    )
    assert sheet.width == 3 * 114 + 14
    assert sheet.height == 2 * 150 + 14
