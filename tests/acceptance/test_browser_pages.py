"""Every page of the app and of the example shop, in one browser: for axe-core, for keys alone, and in other languages.

Under ``default-src 'self'``, without an error in the console. Pages that come of a photo are opened at the addresses
that their searches got.
"""

import json

import pytest

from ..browser import (  # noqa: F401
    DESKTOP,
    LEAVING,
    MOBILE,
    NO_ICON,
    browser,
    follow,
    opened,
    shot,
    violations,
    wider_than_the_window,
)
from ..example import demo_shop  # noqa: F401

REFUSED = r"status of 422"
# Django's own pages: styles that its calendar and select2 write into elements.
DJANGO = r"inline style .*(static/admin|/change/|/add/|/\?e=1)|inline style .*/admin/"

PREPARE = """
import json
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse
from django.utils import timezone
from django_visual_search.fields.registry import get_field
from django_visual_search.models import (
    EmbeddingBatch, Evidence, Feedback, FindabilityFinding, RankingRule, SearchLog,
)
from django_visual_search.spaces.heads import serving_extractor
from example_project.shop.models import Order, Product
from tests.heads import make_head

FIELD = "shop.Product.embedding"
User.objects.create_superuser("staff", password="of the shop")
tea, twin, gone = Product.objects.filter(sku__startswith="TEA").order_by("sku")[3:6]
Product.objects.filter(pk=gone.pk).update(stock=0)
head = make_head("winter", label=FIELD, before=0.4, after=0.6)
now = timezone.now()
FindabilityFinding.objects.create(
    label=FIELD, object_id=str(tea.pk), product_id=str(tea.pk), image=tea.image.name, reason="duplicate",
    other_id=str(twin.pk), similarity=0.9999, checked_at=now,
    extractor_key=serving_extractor(get_field(FIELD)).spec.key,
)
batch = EmbeddingBatch.objects.create(created_at=now, pictures={FIELD: [str(tea.pk), str(twin.pk)]}, beyond=3)
kind = ContentType.objects.get_for_model(Product).pk
admin = lambda name, *arguments: reverse(f"admin:{name}", args=arguments)
ours = lambda name, *arguments: admin(f"django_visual_search_{name}", *arguments)
change = lambda row: ours(f"{row._meta.model_name}_change", row.pk)
tables = (
    *("dashboard", "findability", "rankingrule", "embeddinghead"),
    *("indexingattempt", "feedback", "searchlog", "evidence"),
)
pinned = f"?kind=pin&slot=1&object_id={kind}:{twin.pk}&query_id={kind}:{tea.pk}"
rule = RankingRule.objects.first()
pages = {
    "list": "/",
    "list-narrowed": "/?category=teapots&min_price=10",
    "list-none": "/?q=nothing",
    "list-wrong": "/?category=nothing",
    "product": tea.get_absolute_url(),
    "sold-out": gone.get_absolute_url(),
    "photo": "/photo-search/",
    "app": "/visual-search/photo/shop/product/",
    "admin": "/admin/",
    "admin-products": admin("shop_product_changelist"),
    "admin-product": admin("shop_product_change", tea.pk),
    "admin-product-add": admin("shop_product_add"),
    "admin-shop": admin("app_list", "shop"),
    "admin-orders": admin("shop_order_changelist"),
    "admin-order": admin("shop_order_change", Order.objects.first().pk),
    "admin-order-add": admin("shop_order_add"),
    "admin-coupon-add": admin("shop_coupon_add"),
    "admin-category": admin("shop_category_change", tea.category_id),
    "admin-ours": admin("app_list", "django_visual_search"),
    "admin-photo": "/admin/shop/product/visual-search/",
    "admin-similar": f"/admin/shop/product/visual-search/?product={tea.pk}",
    **{f"admin-{name}": ours(f"{name}_changelist") for name in tables},
    "admin-rule-add": ours("rankingrule_add"),
    "admin-rule": change(rule),
    "admin-rule-preview": ours("rankingrule_add") + pinned,
    "admin-rule-delete": ours("rankingrule_delete", rule.pk),
    "admin-rule-history": ours("rankingrule_history", rule.pk),
    "admin-head": change(head),
    "admin-switch": ours("embeddinghead_switch", head.pk),
    "admin-roll-back": ours("embeddinghead_roll_back", FIELD),
    "admin-switching": ours("embeddinghead_switching", FIELD),
    "admin-batch": ours("indexingattempt_batch", batch.pk),
    "admin-pair": ours("findability_pair") + f"?model=shop.Product&product={tea.pk}&other={twin.pk}",
    "admin-feedback-row": change(Feedback.objects.first()),
    "admin-search": change(SearchLog.objects.first()),
    "admin-evidence-row": change(Evidence.objects.first()),
}
print(json.dumps(pages))
"""

TOUR = """(scope) => {
    const root = document.querySelector(scope) || document.body;
    const all = [...root.querySelectorAll(
        "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]"
    )].filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({visibilityProperty: true})
        && one.getBoundingClientRect().width > 1
        && !(one.type === "radio" && !one.checked && document.querySelector(`[name="${one.name}"]:checked`)));
    window.left = new Set(all);
    window.plain = [];
    const seen = (one) => {
        for (const running of document.getAnimations()) running.finish();
        return [one, one.closest("label"), one.parentElement, one.firstElementChild].filter(Boolean).map((part) => {
            const {outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor, color, textDecorationLine}
                = getComputedStyle(part);
            return [outlineStyle === "none" ? "" : outlineWidth, boxShadow, borderColor, backgroundColor, color,
                textDecorationLine].join();
        }).join();
    };
    document.addEventListener("focusin", ({target}) => {
        if (!window.left.delete(target)) return;
        window.looks = [target, seen(target)];
    });
    document.addEventListener("focusout", ({target}) => {
        const [one, focused] = window.looks || [];
        if (one !== target) return;
        window.looks = null;
        setTimeout(() => { if (seen(one) === focused) window.plain.push(one); });
    });
    window.isPlain = (one) => { // once more, without the next one's focus beside it
        one.focus();
        const focused = seen(one);
        one.blur();
        return seen(one) === focused;
    };
    document.activeElement.blur();
    return all.length;
}"""

LEFT = """() => [
    ...[...left].map((one) => one.outerHTML.slice(0, 200)),
    ...plain.filter(isPlain).map((one) => `no focus to be seen: ${one.outerHTML.slice(0, 200)}`),
]"""


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    demo_shop.environment["DJANGO_SETTINGS_MODULE"] = "tests.strict_example"
    demo_shop.pages = json.loads(demo_shop.python(PREPARE))
    with demo_shop.server() as demo_shop.address:
        yield demo_shop


def log_in(page, shop):
    page.goto(f"{shop.address}/admin/login/?next=/admin/jsi18n/")
    page.fill("#id_username", "staff")
    page.fill("#id_password", "of the shop")
    follow(page, lambda: page.click("input[type=submit]"))
    assert page.url.endswith("/jsi18n/")


def search_by(page, shop, path, photo):
    """Search by a photo, and return the address of its hits."""
    page.goto(shop.address + path)
    # The hits are there before the browser says that their request is over; the next page would cut it off.
    with page.expect_request_finished(lambda request: request.method == "POST" and request.url.endswith(path)):
        page.locator("main input[type=file]").first.set_input_files(photo)
    page.locator(".visual-search-found h2").first.wait_for()
    return page.url.removeprefix(shop.address)


def noise(path):
    """Write a photo of nothing that a shop sells."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (480, 360, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=85)
    return path


def photo_pages(page, shop, tmp_path):
    """Return the addresses of pages that come of a photo: what was found, by each page; and nothing."""
    photo = shop.state / "photos" / "bac-019-room.jpg"
    none = search_by(page, shop, shop.pages["photo"], noise(tmp_path / "noise.jpg"))
    assert page.locator(".visual-search-ways").count() == 1
    return {
        "photo-none": none,
        "photo-found": search_by(page, shop, shop.pages["photo"], photo),
        "app-found": search_by(page, shop, shop.pages["app"], photo),
        "photo-expired": shop.pages["photo"] + "?handle=expired",
    }


def tour(page, scope):
    """Hold Tab down through the page; return what can't be reached, and where nothing shows that it is."""
    count = page.evaluate(TOUR, scope)
    for _press in range(count + 120):
        page.keyboard.down("Tab")  # again, as a key that is held does
        if not _press % 10 and not page.evaluate("left.size"):
            break
    page.keyboard.up("Tab")
    page.keyboard.press("Tab")
    page.wait_for_timeout(0)
    return page.evaluate(LEFT)


def test_accessible_and_by_keys_alone(browser, shop, tmp_path):  # noqa: F811
    """Each page: what axe-core finds in light and dark, and what Tab doesn't reach or shows no focus."""
    faults = {}
    expected = [LEAVING, NO_ICON, DJANGO, "status of 410"]
    with opened(browser, expected=expected) as page:
        log_in(page, shop)
        for name, path in {**shop.pages, **photo_pages(page, shop, tmp_path)}.items():
            page.goto(shop.address + path)
            for scheme, rules in (("light", None), ("dark", ["color-contrast"])):
                page.emulate_media(color_scheme=scheme)
                found = violations(page, rules)
                faults |= {f"{name}, {scheme}": found} if found else {}
                shot(page, f"pages/{name}-{scheme}")
            page.emulate_media(color_scheme="light")
            found = tour(page, "#content" if name.startswith("admin") else "body")
            faults |= {f"{name}, keys": found} if found else {}
        assert faults == {}, json.dumps(faults, indent=1)


@pytest.mark.parametrize(
    ("language", "viewports"), [("ar", [DESKTOP, MOBILE]), ("zh-hans", [MOBILE]), ("de", [MOBILE])]
)
def test_other_languages_fit(language, viewports, browser, shop, tmp_path):  # noqa: F811
    """No page is wider than the window, and Arabic pages run from right to left."""
    direction = "rtl" if language == "ar" else "ltr"
    wide = {}
    with opened(browser, locale=language, expected=[LEAVING, NO_ICON, DJANGO, "status of 410"]) as page:
        log_in(page, shop)
        for name, path in {**shop.pages, **photo_pages(page, shop, tmp_path)}.items():
            page.set_viewport_size(viewports[0])
            page.goto(shop.address + path)
            html = page.evaluate("[document.documentElement.lang, document.documentElement.dir]")
            assert html == [language, direction], name
            for viewport in viewports:
                page.set_viewport_size(viewport)
                if pixels := wider_than_the_window(page):
                    wide[name, viewport["width"]] = pixels
                shot(page, f"{language}-{viewport['width']}/{name}")
    assert wide == {}
