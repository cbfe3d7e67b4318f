"""The shop in a real browser: seen and clicked hits are reported, photo search works, and pages fit the window."""

import json
import time

import pytest

from ..browser import DESKTOP, MOBILE, NO_ICON, browser, follow, opened, shot, wider_than_the_window  # noqa: F401
from ..example import demo_shop  # noqa: F401

PHOTO_PAGE = "/visual-search/photo/shop/product/"
HIT = "[data-visual-search-product]"
LEAVING = r"ERR_ABORTED .*/(media|feedback|objects)/"  # still loading when the page was left; beacons continue


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    demo_shop.environment["DJANGO_SETTINGS_MODULE"] = "tests.strict_example"
    sku = "from example_project.shop.models import *; print(Product.objects.get(sku='TEA-004').get_absolute_url())"
    demo_shop.product = demo_shop.python(sku)
    with demo_shop.server() as demo_shop.address:
        yield demo_shop


@pytest.fixture(autouse=True)
def forget(shop):
    shop.python("from django_visual_search.models import *; Feedback.objects.all().delete()")


def rows(shop, *kinds, count=0):
    """Return the events of these kinds (all by default) in the database, once there are at least ``count``."""
    program = (
        "import json; from django_visual_search.models import Feedback; print(json.dumps(list("
        "Feedback.objects.order_by('id').values('kind', 'object_id', 'query_kind', 'query_id', 'rank'))))"
    )
    end = time.monotonic() + 15
    while True:
        found = [row for row in json.loads(shop.python(program)) if not kinds or row["kind"] in kinds]
        if len(found) >= count:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def offered(page):
    return page.locator(HIT).evaluate_all("hits => hits.map(hit => hit.dataset.visualSearchProduct)")


def see(page, hit=0, seconds=1.3):
    page.locator(HIT).nth(hit).scroll_into_view_if_needed()
    page.wait_for_timeout(seconds * 1000)


class TestReporting:
    def test_seen_and_clicked(self, browser, shop):  # noqa: F811
        """Under a strict policy, in a browser without cookies."""
        with opened(browser, cookies=False, expected=[LEAVING]) as page:
            sent = []
            page.on("request", lambda request: "/feedback/" in request.url and sent.append(request))
            page.goto(shop.address + shop.product)
            keys = offered(page)
            assert len(keys) == 8
            see(page)
            follow(page, page.locator(HIT).nth(2).click)
            (click,) = rows(shop, "click", count=1)
            assert (click["object_id"], click["rank"], click["query_kind"]) == (keys[2], 3, "product")
            seen = rows(shop, "impression")
            assert {row["object_id"]: row["rank"] for row in seen}.items() <= dict(
                zip(keys, range(1, 9), strict=True)
            ).items()
            assert len(seen) >= 4
            assert "cookie" not in sent[0].all_headers()
            assert page.context.cookies() == []

    def test_only_visible_hits(self, browser, shop):  # noqa: F811
        with opened(browser, MOBILE) as page:
            page.goto(shop.address + shop.product)
            page.wait_for_timeout(1500)
            see(page, 1)
            page.wait_for_timeout(3200)
            assert 2 <= len(rows(shop, "impression")) <= 4
            page.locator(HIT).nth(7).scroll_into_view_if_needed()
            page.mouse.wheel(0, -3000)
            page.wait_for_timeout(4500)
            assert len(rows(shop)) <= 4, "the last ones were not in sight for a second"

    def test_nothing_is_lost_when_the_page_is_left(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            page.goto(shop.address + shop.product)
            see(page)
            page.goto(shop.address)
            assert rows(shop, "impression", count=1)

    def test_keyboard_and_middle_button(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            page.goto(shop.address + shop.product)
            keys = offered(page)
            with page.context.expect_page():
                page.locator(HIT).nth(1).click(button="middle")
            page.locator(HIT).nth(5).click(button="right")
            page.locator(HIT).nth(3).focus()
            follow(page, lambda: page.keyboard.press("Enter"))
            assert {row["object_id"] for row in rows(shop, "click", count=2)} == {keys[1], keys[3]}

    def test_once_each(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            sent = []
            page.on("request", lambda request: "/feedback/" in request.url and sent.append(request.post_data_json))
            page.goto(shop.address + shop.product)
            page.evaluate("document.addEventListener('click', event => event.preventDefault())")
            for _ in range(3):
                page.locator(HIT).first.click()
            page.evaluate("""() => new Promise(loaded => {
                const again = document.createElement('script');
                again.src = document.querySelector('script[src*=feedback]').src;
                again.onload = loaded;
                document.head.append(again);
            })""")
            page.locator(HIT).first.click()
            assert [event["kind"] for body in sent for event in body["events"]].count("click") == 1

    def test_hits_that_come_later_and_buttons(self, browser, shop):  # noqa: F811
        with opened(browser) as page:
            page.goto(shop.address + shop.product)
            keys = offered(page)
            page.evaluate("""() => {
                const list = document.querySelector('[data-visual-search-token]'), html = list.innerHTML;
                list.replaceChildren();
                setTimeout(() => {
                    list.innerHTML = html;
                    for (const hit of list.children) {
                        const button = document.createElement('button');
                        const key = hit.querySelector('a').dataset.visualSearchProduct;
                        button.setAttribute('data-visual-search-cart', key);
                        button.textContent = 'cart';
                        hit.append(button);
                    }
                }, 300);
            }""")
            see(page)
            page.locator("[data-visual-search-favourite]").nth(1).click()
            page.locator("[data-visual-search-cart]").nth(2).click()
            page.locator("[data-visual-search-dismiss]").nth(0).click()
            assert offered(page) == keys[1:]
            assert page.evaluate("document.activeElement.dataset.visualSearchDismiss") == keys[1]
            found = rows(shop, "click", "favourite", "cart", "skip", count=3)
            reported = {(row["kind"], row["object_id"], row["rank"]) for row in found}
            assert reported == {("favourite", keys[1], 2), ("cart", keys[2], 3), ("skip", keys[0], 1)}

    @pytest.mark.parametrize("signal", ["globalPrivacyControl: true", "doNotTrack: '1'"])
    def test_visitors_who_opt_out_are_not_tracked(self, signal, browser, shop):  # noqa: F811
        name, value = signal.split(": ")
        with opened(browser, expected=[LEAVING]) as page:
            page.add_init_script(f"Object.defineProperty(Navigator.prototype, '{name}', {{get: () => {value}}})")
            page.goto(shop.address + shop.product)
            see(page)
            follow(page, page.locator(HIT).first.click)
            page.wait_for_timeout(500)
            assert rows(shop) == []

    def test_purchase_is_traced_back_to_the_search(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            page.goto(shop.address + shop.product)
            stocked = page.locator(HIT).nth(4)
            key = offered(page)[4]
            follow(page, stocked.click)
            follow(page, page.get_by_role("button", name="Buy").click)
            page.get_by_text("Thank you.").wait_for()
            shot(page, "bought")
            (purchase,) = rows(shop, "purchase", count=1)
            assert (purchase["object_id"], purchase["rank"], purchase["query_kind"]) == (key, 5, "product")


class TestCards:
    """Heart, not for me, and more like this, under a strict policy."""

    def test_with_scripts(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            weights = {}
            page.on("response", lambda answer: weights.update({answer.url: int(answer.headers["content-length"])}))
            page.goto(shop.address + shop.product)
            cards = page.locator("[data-visual-search-hit]")
            for card in cards.all():
                card.scroll_into_view_if_needed()
            page.wait_for_load_state("networkidle")
            pictures = [picture.evaluate("picture => picture.currentSrc") for picture in cards.locator("img").all()]
            assert len(pictures) == 8
            assert 8 * 500 < sum(weights[url] for url in pictures) <= 80_000
            keys = offered(page)
            heart = cards.nth(1).locator("button[name=favourite]")
            heart.click()
            assert heart.get_attribute("aria-pressed") == "true"
            cards.nth(0).get_by_role("button", name="Not for me").press("Enter")
            assert offered(page) == keys[1:]
            assert page.evaluate("document.activeElement.value") == keys[1]
            follow(page, cards.nth(2).get_by_text("More like this").click)
            assert page.url.endswith("#visual-search-similar")
            found = rows(shop, "click", "favourite", "skip", count=3)
            reported = {(row["kind"], row["object_id"], row["rank"]) for row in found}
            assert reported == {("favourite", keys[1], 2), ("skip", keys[0], 1), ("click", keys[3], 4)}

    def test_without_scripts(self, browser, shop):  # noqa: F811
        with opened(browser, MOBILE, java_script_enabled=False, expected=[LEAVING, NO_ICON]) as page:
            page.goto(shop.address + shop.product)
            keys = offered(page)
            card = page.locator("[data-visual-search-hit]").nth(2)
            follow(page, card.get_by_role("button", name="I like this").click)
            page.get_by_role("heading", name="Thank you").wait_for()
            shot(page, "reaction-mobile")
            (favourite,) = rows(shop, "favourite", count=1)
            assert (favourite["object_id"], favourite["rank"]) == (keys[2], 3)
            follow(page, page.get_by_text("Back to where you were").click)
            assert page.url == shop.address + shop.product

    def test_a_sample_photo_is_a_click_away(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING]) as page:
            page.goto(f"{shop.address}/photo-search/")
            shot(page, "photo-search-samples")
            follow(page, page.get_by_role("link", name="Teapots").click)
            assert "tea-004" in page.locator(HIT).first.get_attribute("href")


class TestAtHome:
    """The app's styles in a shop that looks otherwise."""

    def test_properties_of_the_shop(self, browser, shop):  # noqa: F811
        with opened(browser, expected=[LEAVING, NO_ICON]) as page:
            page.goto(shop.address + PHOTO_PAGE)
            page.locator("main input[type=file]").first.set_input_files(shop.state / "photos" / "tea-004-table.jpg")
            page.locator(HIT).first.wait_for()
            own = {
                "--visual-search-accent": "rgb(200, 0, 100)",
                "--visual-search-accent-ink": "rgb(255, 255, 0)",
                "--visual-search-radius": "3px",
                "--visual-search-gap": "21px",
                "--visual-search-font": "cursive",
            }
            chip = page.locator(".visual-search-chip").first
            chip.click()
            page.locator(".visual-search-chosen").wait_for()
            page.evaluate(
                "own => { for (const name in own) document.documentElement.style.setProperty(name, own[name]); }", own
            )
            styles = page.evaluate("""() => [
                [".visual-search-chosen", "backgroundColor"], [".visual-search-chosen", "color"],
                [".visual-search-cards .visual-search-picture", "borderRadius"],
                [".visual-search-cards", "columnGap"], [".visual-search-results", "fontFamily"],
            ].map(([selector, name]) => getComputedStyle(document.querySelector(selector))[name])""")
            assert styles == list(own.values())

    def test_the_pages_scheme_not_the_devices(self, browser, shop):  # noqa: F811
        """A page that is always light stays light on a dark device."""
        with opened(browser, dark=True, expected=[LEAVING, NO_ICON]) as page:
            page.goto(shop.address + PHOTO_PAGE)
            ground = "getComputedStyle(document.querySelector('.visual-search-page')).backgroundColor"
            dark = page.evaluate(ground)
            page.evaluate("document.documentElement.style.colorScheme = 'light'")
            page.evaluate("document.body.style.colorScheme = 'light'")
            light = page.evaluate(ground)
            assert (dark, light) == ("rgb(22, 23, 26)", "rgb(251, 250, 248)")

    def test_as_wide_as_its_place_in_the_page(self, browser, shop):  # noqa: F811
        """In a narrow column of a wide window, the widget is that of a telephone; a carousel is one row."""
        with opened(browser, expected=[LEAVING, NO_ICON]) as page:
            page.goto(shop.address + PHOTO_PAGE)
            page.locator("main input[type=file]").first.set_input_files(shop.state / "photos" / "tea-004-table.jpg")
            page.locator(HIT).first.wait_for()
            box = lambda part: page.locator(f".visual-search-{part}").first.bounding_box()  # noqa: E731
            ask, results = box("ask"), box("results")
            assert results["x"] >= ask["x"] + ask["width"]
            page.evaluate("document.querySelector('main').style.width = '390px'")
            ask, results = box("ask"), box("results")
            assert results["y"] >= ask["y"] + ask["height"]

            page.evaluate("document.querySelector('main').style.width = ''")
            page.set_viewport_size(MOBILE)
            cards = page.locator(".visual-search-cards").last
            rows = "list => new Set([...list.children].map(card => card.offsetTop)).size"
            assert cards.evaluate(rows) > 1
            cards.evaluate("list => list.parentElement.classList.add('visual-search-carousel')")
            assert cards.evaluate(rows) == 1
            assert cards.evaluate("list => list.scrollWidth > 2 * list.clientWidth")
            assert wider_than_the_window(page) == 0


def test_clicks_on_hits_of_a_photo(browser, shop):  # noqa: F811
    with opened(browser, expected=[LEAVING]) as page:
        page.goto(f"{shop.address}/photo-search/")
        page.locator("main input[type=file]").first.set_input_files(shop.state / "photos" / "tea-004-table.jpg")
        page.locator(HIT).nth(1).wait_for()
        key = offered(page)[1]
        follow(page, page.locator(HIT).nth(1).click)
        (click,) = rows(shop, "click", count=1)
        assert click == {"kind": "click", "object_id": key, "query_kind": "photo", "query_id": "", "rank": 2}


def test_a_long_name_fits_every_page(browser, shop):  # noqa: F811
    long = "Donaudampfschifffahrtsgesellschaftskapitaensmuetzenbaender <b>&amp;"
    rename = "from example_project.shop.models import *; p = Product.objects.filter(sku='TEA-004'); "
    name = shop.python(rename + f"print(p.get().name); p.update(name={long!r})")
    try:
        with opened(browser, MOBILE, expected=[LEAVING, NO_ICON]) as page:
            for path in (f"/?q={long[:12]}", shop.product, PHOTO_PAGE):
                page.goto(shop.address + path)
                if path == PHOTO_PAGE:
                    photo = shop.state / "photos" / "tea-004-table.jpg"
                    page.get_by_label("Choose a photo").set_input_files(photo)
                    page.locator(HIT).first.wait_for()
                assert page.get_by_text(long).first.is_visible(), path
                assert wider_than_the_window(page) == 0, path
    finally:
        shop.python(rename + f"p.update(name={name!r})")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, MOBILE], ids=["desktop", "mobile"])
def test_pages_fit_the_window(viewport, dark, browser, shop, request):  # noqa: F811
    mobile = viewport is MOBILE
    with opened(browser, viewport, dark=dark, has_touch=mobile, is_mobile=mobile, expected=[LEAVING]) as page:
        page.goto(shop.address + shop.product)
        assert wider_than_the_window(page) == 0
        page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
        page.wait_for_load_state("networkidle")
        shot(page, f"product-{request.node.callspec.id}")
