"""The example shop's admin in a real browser, under a strict policy: a day of staff's work."""

import re
import time

import pytest

from ..browser import MOBILE, browser, follow, opened, shot, wider_than_the_window  # noqa: F401
from ..example import demo_shop  # noqa: F401
from ..processes import REDIS, forget_queue, need

PRODUCTS = "/admin/shop/product/"
DASHBOARD = "/admin/django_visual_search/dashboard/"
FINDABILITY = "/admin/django_visual_search/findability/"
# Pictures still loading when the page was left, and choices when more was typed.
LEAVING = r"ERR_ABORTED .*/(media|products|autocomplete)/"
# Django's own pages: styles that its calendar and select2 write into elements.
DJANGO = r"inline style .*(static/admin|/change/|/add/)|favicon"
PRODUCTS_LEFT = 65
"""Four of each kind, and one whose photo staff search by; only sneakers have further pictures. The demo's would take
minutes to move and check."""
STATES = """
import uuid
from django.utils import timezone
from django_visual_search import indexing
from django_visual_search.models import IndexingAttempt
from django_visual_search.fields.registry import get_field
from django_visual_search.spaces.heads import serving_embedding_key
from example_project.shop.models import Product
field = get_field("shop.Product.embedding")
stale, missing, refused, quarantined = Product.objects.order_by("-created", "-pk")[1:5]
indexing.mark_stale(field, [stale.pk])
Product.objects.filter(pk__in=[missing.pk, refused.pk, quarantined.pk]).update(embedding=None, embedding_key=None)
for row, state, message in (
    (refused, "refused", "The picture is truncated or broken. Save or photograph it again."),
    (quarantined, "quarantined", "Each of 3 attempts to embed this picture ended with its worker lost."),
):
    IndexingAttempt.objects.create(
        label=field.label, object_id=row.pk, key=serving_embedding_key(field, row.image.name), token=uuid.uuid4(),
        state=state, code="corrupt", message=message, leased_until=timezone.now(), attempts=3,
    )
print(stale.pk, missing.pk)
"""
FEEDBACK = """
import datetime, random, uuid
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django_visual_search.models import Feedback
from example_project.shop.models import Product
rng, now, kind = random.Random(1), timezone.now(), ContentType.objects.get_for_model(Product)
events = {"impression": 90, "click": 7, "favourite": 2, "cart": 2, "purchase": 1}
Feedback.objects.bulk_create(
    Feedback(
        kind=name, created_at=now - datetime.timedelta(days=day, seconds=60), content_type=kind,
        object_id=str(rng.randrange(1, 99)), digest=uuid.uuid4().hex,
    )
    for day in range(30) for name, usual in events.items() for _ in range(round(usual * rng.uniform(0.2, 1.8)))
)
print(Feedback.objects.count())
"""
UNFOUND = """
import io
from django.core.files.base import ContentFile
from PIL import Image
from example_project.shop.models import Product
tea = Product.objects.get(sku="TEA-004")
tiny = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(tiny, "PNG")
with tea.image.open() as file:
    copy = file.read()
for sku, data in (("BARE", None), ("TINY", tiny.getvalue()), ("BROKEN", b"no picture"), ("COPY", copy)):
    one = Product(name=f"Unfound {sku}", slug=sku, sku=sku, category=tea.category, brand=tea.brand, price=1)
    if data:
        one.image.save(f"{sku}.jpg", ContentFile(data), save=False)
    one.save()
print(tea.name)
"""

TWINS = """
from django.utils import timezone
from django_visual_search.fields.registry import get_field
from django_visual_search.models import FindabilityFinding
from django_visual_search.spaces.heads import serving_extractor
from example_project.shop.models import Product
label = "shop.Product.embedding"
key, now = serving_extractor(get_field(label)).spec.key, timezone.now()
one, other = Product.objects.filter(sku__startswith="MUG").order_by("sku")[:2]
FindabilityFinding.objects.filter(label=label).delete()
FindabilityFinding.objects.create(
    label=label, object_id=str(one.pk), product_id=str(one.pk), image=one.image.name, reason="duplicate",
    other_id=str(other.pk), similarity=0.9999, extractor_key=key, checked_at=now,
)
print(one.name, other.name, sep="\\n")
"""


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    demo_shop.environment["DJANGO_SETTINGS_MODULE"] = "tests.strict_example"
    demo_shop.python(
        "from django.contrib.auth.models import User; User.objects.create_superuser('staff', password='of the shop'); "
        "from django_visual_search.models import *; IndexingRun.objects.filter(kind='findability').delete(); "
        "from example_project.shop.models import *; "
        "gone = Product.objects.exclude(sku__regex='-00[1-4]$|^SNE-010$'); "
        "OrderLine.objects.filter(product__in=gone).delete(); gone.delete(); "
        "ProductImage.objects.exclude(product__sku__startswith='SNE').delete(); "
        f"assert Product.objects.count() == {PRODUCTS_LEFT}"
    )
    with demo_shop.server() as demo_shop.address:
        yield demo_shop


@pytest.fixture
def working(browser, shop):  # noqa: F811
    """Return a function that opens a page of the admin as a logged-in user."""
    pages = []

    def go(address, **options):
        expected = [LEAVING, DJANGO, *options.pop("expected", ())]
        context = opened(browser, expected=expected, **options)
        page = context.__enter__()
        pages.append(context)
        page.goto(shop.address + "/admin/login/?next=" + address)
        page.fill("#id_username", "staff")
        page.fill("#id_password", "of the shop")
        follow(page, lambda: page.click("input[type=submit]"))
        assert page.url == shop.address + address
        return page

    yield go
    for context in pages:
        context.__exit__(None, None, None)


def status(page, name):
    row = page.locator("#result_list tbody tr", has_text=name)
    return row.locator(".visual-search-status").inner_text()


def search_by(page, photo, **fields):
    page.set_input_files("#id_photo", str(photo))
    for name, value in fields.items():
        page.fill(f"#id_{name}", value)
    follow(page, lambda: page.click(".visual-search-form input[type=submit]"))
    page.wait_for_selector(".visual-search-searched")


def hits(page):
    return page.locator(".visual-search-staff .visual-search-title").all_inner_texts()


def test_a_day_in_the_shop(working, shop):
    """Add a product, see it searchable, embed it again, find it by photo."""
    photo = shop.state / "photos" / "tea-004-table.jpg"
    page = working(PRODUCTS)
    follow(page, lambda: page.click(".object-tools .addlink"))
    page.fill("#id_name", "Teapot of the day")
    page.fill("#id_sku", "DAY-001")
    page.fill("#id_price", "12.50")
    page.fill("#id_stock", "3")
    for field, typed in (("category", "Teapots"), ("brand", "Casa Olmo")):
        page.click(f".field-{field} .select2-selection")
        page.locator(".select2-container--open .select2-search__field").press_sequentially(typed)
        page.locator(".select2-results__option--highlighted", has_text=typed).click()
    page.set_input_files("#id_image", str(photo))
    follow(page, lambda: page.click("input[name=_save]"))
    page.wait_for_selector(".messagelist .success")
    assert status(page, "Teapot of the day") == "current"

    follow(page, page.locator("#result_list .field-name a", has_text="Teapot of the day").click)
    page.wait_for_selector(".visual-search-panel")
    assert page.locator(".visual-search-panel li").count() == 8
    follow(page, lambda: page.click("text=View on site"))
    page.wait_for_load_state()
    assert page.locator("[data-visual-search-product]").count() == 8
    assert "Teapot of the day" in page.title()

    key = "from example_project.shop.models import *; p = Product.objects.filter(sku='DAY-001'); "
    shop.python(key + "p.update(embedding_key='other:x')")
    page.goto(shop.address + PRODUCTS)
    assert status(page, "Teapot of the day") == "stale"
    page.locator("#result_list tbody tr", has_text="Teapot of the day").locator(".action-select").check()
    page.select_option("select[name=action]", "visual_search_reindex")
    follow(page, lambda: page.click("button[name=index]"))
    page.wait_for_selector(".messagelist li")
    assert "1 picture was processed right away" in page.inner_text(".messagelist")
    assert status(page, "Teapot of the day") == "current"
    assert shop.python(key + "print(p.get().embedding_key.endswith(p.get().image.name))") == "True"

    follow(page, lambda: page.click("text=Search by photo"))
    search_by(page, photo)
    assert hits(page)[0] == "Teapot of the day"
    first = page.locator(".visual-search-staff li").first
    assert re.search(r"1\.000\s+SKU\s+DAY-001\s+Stock\s+3\s+Price\s+12\.50", first.inner_text())
    follow(page, first.locator("text=Search with this picture").click)
    page.wait_for_selector("text=Looks like Teapot of the day")
    assert len(hits(page)) == 24
    assert "Teapot of the day" not in hits(page)
    shop.python(key + "p.get().delete()")


def test_a_customer_writes_in_with_a_photo(working, shop):
    """Staff draw a box around the object, and see this customer's orders and active coupons."""
    email, name = shop.python(
        "from example_project.shop.models import *; line = OrderLine.objects.get_or_create("
        "order=Order.objects.get_or_create(email='new@example.com')[0], "
        "product=Product.objects.get(sku='TEA-004'), price=5)[0]; print(line.order.email, line.product.name, sep='|')"
    ).split("|")
    page = working(f"{PRODUCTS}visual-search/", viewport={"width": 1280, "height": 1100})
    shot(page, "admin-photo-empty")
    page.set_input_files("#id_photo", str(shop.state / "photos" / "tea-004-table.jpg"))
    canvas = page.locator(".visual-search-canvas")
    canvas.wait_for()
    box = canvas.bounding_box()
    corners = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ((0.1, 0.2), (0.9, 0.9))]
    page.mouse.move(*corners[1])
    page.mouse.down()
    page.mouse.move(*corners[0], steps=4)
    page.mouse.up()
    drawn = [int(page.input_value(f"#id_{side}")) for side in ("left", "top", "right", "bottom")]
    assert drawn == pytest.approx([10, 20, 90, 90], abs=1)
    page.fill("#id_customer", email)
    shot(page, "admin-photo-box")
    follow(page, lambda: page.click(".visual-search-form input[type=submit]"))
    page.wait_for_selector(".visual-search-searched")
    assert "by a part of the photo" in page.inner_text(".visual-search-searched")
    assert [int(page.input_value(f"#id_{side}")) for side in ("left", "top", "right", "bottom")] == drawn
    assert hits(page)[0] == name
    first = page.locator(".visual-search-staff li").first
    assert re.search(r"Order \d+ · .* · 1 x", first.inner_text())
    assert "TEATIME (-10 %)" in first.inner_text()
    page.wait_for_load_state("networkidle")
    shot(page, "admin-photo")
    follow(page, first.locator("a", has_text="Order").click)
    page.wait_for_url("**/admin/shop/order/*/change/")
    assert page.input_value("#id_email") == email


def test_not_a_photo(working, shop):
    page = working(f"{PRODUCTS}visual-search/", expected=["422"])
    note = shop.state / "note.txt"
    note.write_text("no picture")
    search_by = page.locator(".visual-search-form input[type=submit]")
    page.set_input_files("#id_photo", str(note))
    assert page.locator(".visual-search-canvas").is_hidden()
    follow(page, search_by.click)
    page.wait_for_selector(".errornote")
    shot(page, "admin-photo-refused")
    assert page.locator(".form-row.errors .errorlist").inner_text().strip()


def test_every_state(working, shop):
    stale, missing, *_ = shop.python(STATES).split()
    page = working(PRODUCTS)
    found = page.locator(".visual-search-status").all_inner_texts()[:6]
    assert found == ["current", "stale", "missing", "refused", "quarantined", "current"]
    assert "truncated or broken" in page.locator(".visual-search-reason").first.inner_text()
    shot(page, "admin-list", full_page=False)
    follow(page, lambda: page.click("#changelist-filter >> text=refused"))
    page.wait_for_url("**/?visual_search=refused")
    assert page.locator("#result_list tbody tr").count() == 1
    shot(working(PRODUCTS, dark=True), "admin-list-dark", full_page=False)

    page.goto(f"{shop.address}/admin/django_visual_search/indexingattempt/")
    assert page.locator("#result_list tbody tr").count() == 2
    shot(page, "admin-attempts")
    for mark in page.locator(".action-select").all():
        mark.check()
    page.select_option("select[name=action]", "retry")
    follow(page, lambda: page.click("button[name=index]"))
    page.wait_for_selector(".messagelist li")
    assert "2 pictures were processed right away. 2 done, 0 refused, 0 failed." in page.inner_text(".messagelist")
    follow(page, lambda: page.click(".messagelist a"))
    page.wait_for_selector(".visual-search-batch")
    assert "Finished." in page.inner_text("#content-main")
    shot(page, "admin-batch")
    page.goto(shop.address + PRODUCTS)
    found = page.locator(".visual-search-status").all_inner_texts()[:6]
    assert found == ["current", "stale", "missing", "current", "current", "current"]
    for key in (stale, missing):
        page.locator(f".action-select[value='{key}']").check()
    page.select_option("select[name=action]", "visual_search_reindex")
    follow(page, lambda: page.click("button[name=index]"))
    page.wait_for_selector(".messagelist li")
    assert set(page.locator(".visual-search-status").all_inner_texts()) == {"current"}


def delete_rules(page, shop):
    """Delete all rules on their page: the server forgets at once what it remembers of them."""
    page.goto(f"{shop.address}/admin/django_visual_search/rankingrule/")
    for mark in page.locator(".action-select").all():
        mark.check()
    page.select_option("select[name=action]", "delete_selected")
    follow(page, lambda: page.click("button[name=index]"))
    follow(page, lambda: page.click("input[type=submit]"))
    page.wait_for_selector(".messagelist .success")


def test_a_rule_made_by_name(working, shop):
    page = working("/admin/django_visual_search/rankingrule/add/", dark=True)
    for kind, fields in {"": [], "boost": ["factor"], "hide": [], "pin": ["slot"]}.items():  # only those of its kind
        page.select_option("#id_kind", kind)
        assert [name for name in ("slot", "factor") if page.locator(f".field-{name}").is_visible()] == fields
    page.fill("#id_slot", "1")
    for field, typed in (("object_id", "SOF-002"), ("query_id", "TEA-004")):
        page.click(f".field-{field} .select2-selection")
        page.locator(".select2-container--open .select2-search__field").press_sequentially(typed)
        # Not by a function in the page, as the policy forbids eval.
        page.wait_for_selector(".select2-results__option[role=option]:only-child")
        if field == "object_id":
            page.wait_for_selector(".select2-results__option[role=option] .visual-search-choice img")
            shot(page, "admin-rule-choice-dark")
        page.click(".select2-results__option[role=option]")
    follow(page, lambda: page.click("input[name=_continue]"))
    page.wait_for_selector(".messagelist .success")
    assert page.locator(".field-pictures img").count() == 2
    shot(page, "admin-rule-dark")
    follow(page, page.locator(".field-pictures a").last.click)
    page.wait_for_selector(".visual-search-panel")
    assert page.locator(".visual-search-panel li .visual-search-why").first.inner_text().endswith("pinned")
    page.wait_for_load_state("networkidle")
    shot(page, "admin-product-dark")
    page.goto(f"{shop.address}/admin/django_visual_search/rankingrule/")
    shot(page, "admin-rules-dark")
    delete_rules(page, shop)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {}),
        ("-dark", {"dark": True}),
        ("-narrow", {"viewport": MOBILE}),
        ("-plain", {"java_script_enabled": False}),
    ],
)
def test_a_rule_from_a_neighbour(working, shop, name, options):
    """Pin a neighbour, look at what that does, hide a category instead, and do the same from the shop's own page."""
    key, url = shop.python(
        "from example_project.shop.models import *; p = Product.objects.get(sku='TEA-004'); "
        "print(p.pk, p.get_absolute_url())"
    ).split()
    page = working(f"{PRODUCTS}{key}/change/", **options)
    last = page.locator(".visual-search-panel .visual-search-hits > li").last
    title = last.locator(".visual-search-title").inner_text()
    follow(page, last.locator("a", has_text="Pin").click)
    page.wait_for_selector(".visual-search-preview")
    after = page.locator(".visual-search-compared > div").last.locator("li")
    assert title in after.first.inner_text()
    assert "pinned" in after.first.inner_text()
    assert page.locator(".field-slot").is_visible()
    assert not page.locator(".field-factor").is_visible()
    assert wider_than_the_window(page) == 0
    page.fill("#id_slot", "3")
    follow(page, lambda: page.click("input[name=_preview]"))
    page.wait_for_selector(".visual-search-preview")
    assert title in after.nth(2).inner_text()
    page.wait_for_load_state("networkidle")
    shot(page, f"admin-rule-preview{name}")
    page.select_option("#id_kind", "hide")
    assert not page.locator(".field-slot").is_visible()
    follow(page, lambda: page.click("input[name=_preview]"))
    page.wait_for_selector(".visual-search-preview")
    assert title not in " ".join(after.all_inner_texts())
    follow(page, lambda: page.click("input[name=_save]"))
    page.wait_for_url(f"**{PRODUCTS}{key}/change/")
    assert title not in page.inner_text(".visual-search-panel .visual-search-hits")
    page.wait_for_load_state("networkidle")
    shot(page, f"admin-product{name}")
    page.goto(shop.address + url)
    staff = page.locator(".visual-search-staff-items")
    staff.locator("summary").click()
    shot(page, f"shop-staff{name}")
    follow(page, staff.locator("a", has_text="Boost").first.click)
    page.wait_for_selector(".visual-search-preview")
    follow(page, lambda: page.click("input[name=_save]"))
    page.wait_for_selector(".visual-search-staff-items")
    delete_rules(page, shop)


@pytest.mark.parametrize(("name", "options"), [("", {}), ("-dark", {"dark": True}), ("-narrow", {"viewport": MOBILE})])
def test_dashboard(working, shop, name, options):
    if not name:
        shop.python(FEEDBACK)
    page = working("/admin/", **options)
    follow(page, lambda: page.click(f"#content-main a[href='{DASHBOARD}']"))
    page.wait_for_selector(".visual-search-field")
    assert page.locator(".visual-search-share strong").all_inner_texts() == ["100\xa0%", "100\xa0%"]
    assert f"{PRODUCTS_LEFT} of {PRODUCTS_LEFT} pictures have their vectors" in page.inner_text("#content-main")
    assert page.locator(".visual-search-chart:not(.visual-search-small)").count() == 7
    first = page.locator(".visual-search-chart rect:not(.visual-search-day)").first
    assert first.bounding_box()["height"] > 1
    assert wider_than_the_window(page) == 0
    shot(page, f"admin-dashboard{name}")
    page.goto(f"{shop.address}{PRODUCTS}visual-search/")
    search_by(page, shop.state / "photos" / "sne-010-table.jpg")
    assert len(hits(page)) == 24
    assert wider_than_the_window(page) == 0
    page.wait_for_load_state("networkidle")
    shot(page, f"admin-photo{name}")


def test_the_dashboard_follows_a_reindex(working, shop):
    """The page reloads while the command runs, and shows its progress."""
    program = (
        "from django_visual_search.models import IndexingRun; from django.utils import timezone; import datetime; "
        "now = timezone.now(); IndexingRun.objects.filter(label='shop.Product.embedding').update("
        "started_at=now - datetime.timedelta(seconds=8), updated_at=now, finished_at={}, total=65, done={})"
    )
    shop.python(program.format("None", 30))
    page = working(DASHBOARD)
    assert "30 of 65 pictures" in page.inner_text("#content-main")
    shot(page, "admin-dashboard-running")
    shop.python(program.format("now", 65))
    end = time.monotonic() + 20
    while "65 pictures embedded" not in page.inner_text("#content-main"):
        assert time.monotonic() < end
        page.wait_for_timeout(200)
    assert page.locator("meta[http-equiv=refresh]").count() == 0


@pytest.fixture
def staffed(shop, monkeypatch):
    """The shop with a broker, and one worker."""
    need(REDIS)
    monkeypatch.setitem(shop.environment, "CELERY_BROKER_URL", REDIS)
    with shop.worker("-c", "1"), shop.server() as address:
        monkeypatch.setattr(shop, "address", address)
        yield shop
    forget_queue(shop.folder.name, REDIS)


@pytest.mark.services
def test_a_worker_checks_findability(staffed, working):
    """Staff start a check on the page, which follows it and shows the findings."""
    name = staffed.python(UNFOUND)
    page = working(FINDABILITY)
    content = lambda: page.inner_text("#content-main")  # noqa: E731
    assert content().count("none yet") == 2, "a check of each embedding field"
    follow(page, lambda: page.click("input[value='Check now']"))
    page.wait_for_selector(".messagelist .success")
    assert "as soon as a worker is free" in page.inner_text(".messagelist")
    shown, end = False, time.monotonic() + 500
    while content().count(" ago ·") < 2:
        assert time.monotonic() < end, (staffed.folder / "worker.log").read_text()
        if not shown and re.search(r"\d+ of 66 products", content()):
            shot(page, "admin-findability-running")
            shown = True  # unless the check is over before the page looks
        page.wait_for_timeout(300)
    found = page.locator(".visual-search-unfindable tbody tr")
    rows = {row.locator("td").first.inner_text().strip(): row.inner_text() for row in found.all()}
    for sku, why in (("BARE", "No picture"), ("TINY", "Too small"), ("BROKEN", "Refused")):
        assert why in rows[f"Unfound {sku}"]
    follow(page, lambda: page.click(".visual-search-choices >> text=Duplicate picture"))
    page.wait_for_url("**reason=duplicate*")
    twins = [set(row.locator("a").all_inner_texts()) for row in found.all()]
    assert sum({name, "Unfound COPY"} <= names for names in twins) == 2
    page.wait_for_load_state("networkidle")
    shot(page, "admin-findability")
    page.set_viewport_size(MOBILE)
    assert wider_than_the_window(page) == 0
    shot(page, "admin-findability-narrow")
    staffed.python(
        "from example_project.shop.models import *; Product.objects.filter(name__startswith='Unfound ').delete()"
    )


def tab_to(page, selector, *, keys="Tab", most=150):
    """Press Tab until the focus is on what the selector names, as nobody with a mouse would believe."""
    for _press in range(most):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(keys)
    raise AssertionError(
        f"no way to {selector} by {keys}; at {page.evaluate('document.activeElement.outerHTML')[:200]}"
    )


def press(page, key="Enter"):
    """Press a key that leads to another page, and wait for that."""
    follow(page, lambda: page.keyboard.press(key))


class TestKeysAlone:
    """Staff's way without a mouse."""

    def test_a_rule_from_a_neighbour(self, working, shop):
        key = shop.python("from example_project.shop.models import *; print(Product.objects.get(sku='TEA-004').pk)")
        product = f"{PRODUCTS}{key}/change/"
        page = working(product)
        last = page.locator(".visual-search-panel .visual-search-hits > li").last
        title = last.locator(".visual-search-title").inner_text()
        tab_to(page, ".visual-search-panel .visual-search-hits > li:last-child .visual-search-rule-links a")
        press(page)
        after = page.locator(".visual-search-compared > div").last.locator("li")
        assert title in after.first.inner_text()
        tab_to(page, "#id_slot")
        page.keyboard.type("4")  # what was in the field is selected
        tab_to(page, "[name=_preview]")
        press(page)
        assert title in after.nth(3).inner_text()
        page.wait_for_selector(".visual-search-preview [autofocus]:focus")  # when the page is first drawn
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('.visual-search-preview') !== null"), "it goes on there"
        shot(page, "admin-keys-preview")
        tab_to(page, "[name=_save]")
        press(page)
        assert page.url == shop.address + product
        assert page.locator(".visual-search-rules li").count() == 1, "it changes what is similar here"
        fourth = page.locator(".visual-search-panel .visual-search-hits > li").nth(3)
        assert title in fourth.inner_text()
        delete_rules(page, shop)

    @pytest.mark.parametrize("kind", ["Pin", "Boost", "Hide"])
    def test_a_rule_at_a_photos_hit(self, kind, working, shop):
        page = working(f"{PRODUCTS}visual-search/")
        page.set_input_files("#id_photo", str(shop.state / "photos" / "sne-010-table.jpg"))
        tab_to(page, ".visual-search-form input[type=submit]")
        press(page)
        page.wait_for_selector(".visual-search-found [autofocus]:focus")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('.visual-search-found') !== null"), "it goes on there"
        title = hits(page)[2]
        order = {"Pin": 1, "Boost": 2, "Hide": 3}[kind]
        tab_to(page, f".visual-search-staff > li:nth-child(3) .visual-search-rule-links a:nth-child({order})")
        press(page)
        assert "Hits of your photo" in page.inner_text(".visual-search-preview")
        after = page.locator(".visual-search-compared > div").last.locator("li").all_inner_texts()
        ranks = [rank for rank, text in enumerate(after, 1) if title in text]
        assert (ranks == [1]) if kind == "Pin" else (ranks < [3]) if kind == "Boost" else (ranks == [])
        tab_to(page, "[name=_save]")
        press(page)
        page.wait_for_selector(".messagelist .success")
        delete_rules(page, shop)

    def test_a_bulk_action_to_its_end(self, working, shop):
        page = working(PRODUCTS)
        for row in (1, 2):
            tab_to(page, f"#result_list tbody tr:nth-child({row}) .action-select")
            page.keyboard.press("Space")
        tab_to(page, "select[name=action]", keys="Shift+Tab")
        page.keyboard.type("Embed")
        assert page.input_value("select[name=action]") == "visual_search_reindex"
        tab_to(page, "button[name=index]")
        press(page)
        assert "2 pictures were processed right away" in page.inner_text(".messagelist")
        tab_to(page, ".messagelist a")
        press(page)
        assert "Finished." in page.inner_text(".visual-search-batch")

    def test_one_of_two_twins_is_kept(self, working, shop):
        names = shop.python(TWINS).splitlines()
        page = working(f"{FINDABILITY}?reason=duplicate")
        tab_to(page, ".visual-search-unfindable .visual-search-rule-links a")
        assert page.evaluate("document.activeElement.textContent") == "The same product: keep one"
        press(page)
        tab_to(page, "[name=keep]")
        page.keyboard.press("ArrowDown")
        kept = page.locator(".visual-search-twin:has(:checked) strong").inner_text()
        assert kept in names
        shot(page, "admin-pair")
        tab_to(page, "input[type=submit]")
        press(page)
        assert f"and {kept} is found" in page.inner_text(".messagelist")
        assert page.locator(".visual-search-unfindable tbody tr").count() == 0
        tab_to(page, ".messagelist a")
        press(page)  # undo, which asks first
        tab_to(page, "#content input[type=submit]")
        press(page)
        page.wait_for_selector(".messagelist .success")


def test_switch_to_a_head_and_roll_back(working, shop):
    """By keys alone: the dashboard names a head that waits, and buttons do the rest. Last: it moves all vectors."""
    shop.python(
        "from tests.heads import make_head; make_head('winter', label='shop.Product.embedding', before=0.4, after=0.6)"
    )
    page = working(DASHBOARD)
    tab_to(page, ".visual-search-waiting a")
    press(page)
    page.wait_for_load_state("networkidle")
    shot(page, "admin-head")
    page.set_viewport_size(MOBILE)
    assert wider_than_the_window(page) == 0
    shot(page, "admin-head-narrow")
    tab_to(page, ".object-tools a[href$='/switch/']")
    press(page)
    shot(page, "admin-switch-narrow")
    tab_to(page, "input[value=Switch]")
    press(page)
    page.wait_for_selector(".messagelist .success")
    assert re.search(r"6[56] pictures are left", page.inner_text("#content-main"))
    shot(page, "admin-switching-narrow")
    tab_to(page, "#content-main a[href*='roll-back']")
    page.wait_for_selector(".visual-search-done", timeout=120_000)  # what is shown follows the switch
    assert page.evaluate("document.activeElement.href.includes('roll-back')"), "and the focus stays"
    page.set_viewport_size({"width": 1280, "height": 900})
    press(page)
    shot(page, "admin-roll-back")
    tab_to(page, "input[value='Roll back']")
    press(page)
    page.wait_for_selector(".messagelist .success")
    assert "is left" in page.inner_text("#content-main") or "are left" in page.inner_text("#content-main")
