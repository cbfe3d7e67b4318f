"""Fill the shop with the drawn catalogue; a second run adds only what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from django.conf import settings
from django.utils.text import slugify

from .drawing.catalogue import Item, catalogue
from .drawing.write import Drawing, Shot
from .models import Brand, Category, Coupon, Order, OrderLine, Product, ProductImage

FOLDER = "products/drawn"
OPENED = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""The shop's first day."""
ORDERS = 240
CUSTOMERS = ("ada", "ben", "chloe", "dario", "edda", "finn", "greta", "hugo", "ines", "jonas", "klara", "luis")


def _files(item: Item) -> tuple[str, dict[str, str]]:
    """Return names in the media folder: the item's picture, and its photos by seed."""
    photos = {f"{item.sku} {n}": f"{FOLDER}/{item.sku.lower()}-{n}.jpg" for n in range(1, item.photos + 1)}
    return f"{FOLDER}/{item.sku.lower()}.jpg", photos


def items() -> list[Item]:
    return list(catalogue())


def drawings(items: list[Item]) -> list[Drawing]:
    """Return the drawings of products that lack a picture in the media folder."""
    media = Path(settings.MEDIA_ROOT)
    missing = []
    for item in items:
        main, photos = _files(item)
        if not all((media / name).exists() for name in [main, *photos.values()]):
            shots = [Shot(str(media / name), seed) for seed, name in photos.items()]
            missing.append(Drawing(item.design, str(media / main), shots))
    return missing


def fill(items: list[Item]) -> int:
    """Insert the missing products in bulk, without embedding them; return how many."""
    present = set(Product.objects.values_list("sku", flat=True))
    new = [item for item in items if item.sku not in present]
    # Kinds mixed, as in a shop that grew
    Random("order of arrival").shuffle(new)
    for model, names in ((Category, {item.category for item in new}), (Brand, {item.brand for item in new})):
        model.objects.bulk_create([model(name=n, slug=slugify(n)) for n in sorted(names)], ignore_conflicts=True)
    categories, brands = Category.objects.in_bulk(field_name="name"), Brand.objects.in_bulk(field_name="name")
    products = [
        Product(
            name=item.name,
            slug=slugify(f"{item.name} {item.sku}"),
            sku=item.sku,
            category=categories[item.category],
            brand=brands[item.brand],
            price=item.price,
            stock=item.stock,
            description=item.description,
            colour=item.design.colour,
            image=_files(item)[0],
        )
        for item in new
    ]
    Product.objects.bulk_create(products)
    further = [
        ProductImage(product=product, image=name, position=position)
        for item, product in zip(new, products, strict=True)
        for position, name in enumerate(_files(item)[1].values(), 1)
    ]
    ProductImage.objects.bulk_create(further)
    return len(products)


def fill_orders() -> None:
    """Insert orders and a few coupons, the same on every machine, unless the shop has orders."""
    if Order.objects.exists():
        return
    rng = Random("orders")
    products = list(Product.objects.filter(sku__in=[item.sku for item in items()]).order_by("sku").only("sku", "price"))
    orders, lines = [], []
    for n in range(ORDERS):
        created = OPENED + timedelta(hours=5 * n, minutes=rng.randrange(300))
        orders.append(Order(email=f"{rng.choice(CUSTOMERS)}@example.com", created=created))
        for product in rng.sample(products, rng.choice([1, 1, 2, 3])):
            quantity, returned = rng.choice([1, 1, 1, 2, 4]), rng.random() < 0.06
            lines.append(
                OrderLine(order=orders[-1], product=product, quantity=quantity, price=product.price, returned=returned)
            )
    Order.objects.bulk_create(orders)
    OrderLine.objects.bulk_create(lines)
    code = {"teapots": "TEATIME", "sneakers": "LASTPAIR"}
    coupons = [
        Coupon(code="HELLO5", percent=5, valid_from=OPENED),
        Coupon(code=f"ONLY-{products[0].sku}", percent=20, product=products[0], valid_from=OPENED),
        Coupon(code="OPENING", percent=30, valid_from=OPENED, valid_until=OPENED + timedelta(days=14)),
        *(
            Coupon(code=code[category.slug], percent=10, category=category, valid_from=OPENED)
            for category in Category.objects.filter(slug__in=code)
        ),
    ]
    Coupon.objects.bulk_create(coupons, ignore_conflicts=True)
