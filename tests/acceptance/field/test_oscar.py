"""A shop on django-oscar, made from nothing by what ``docs/howto/oscar.md`` says, and driven in Chromium."""

import contextlib
import signal
import socket

import pytest

pytest.importorskip("oscar", reason="the extra 'field' is not installed")

from ... import oscarshop
from ...browser import MOBILE, browser, follow, opened, shot, wider_than_the_window  # noqa: F401
from ...processes import closed_port, until
from ..test_strangers_shop import server  # noqa: F401
from .test_colours import COLOURS, contrast

SINGLES = {f"single{i}" for i in range(10)} | {"deleted"}
VISIBLE = {*SINGLES, "pictured", "bare"}
# Oscar loads jQuery from a CDN, with a copy for those who can't reach it.
EXPECTED = ["googleapis", "cdn"]


@pytest.fixture(scope="module")
def shop(server, tmp_path_factory):  # noqa: F811
    return oscarshop.OscarShop(tmp_path_factory.mktemp("oscar"), server)


@pytest.fixture(scope="module")
def seen(shop):
    return shop.build()


@pytest.fixture(scope="module")
def address(shop, seen):
    """The shop's address, while a server of its own runs."""
    port = closed_port()
    with (shop.folder / "server.log").open("w") as log:
        process = shop.start("-m", "django", "runserver", "--noreload", str(port), stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    until(lambda: process.poll() is not None or _answers(port), 60, "the server's start")
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(30)


def _answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True


class TestOscar:
    def test_what_the_page_says_is_short_and_enough(self, shop, seen):
        assert shop.lines <= 15
        assert "Create model ProductImageEmbedding" in seen["commands"][0]
        assert seen["migrations"] == "No changes detected\n", "of Oscar's apps neither"
        assert "ProductImageEmbedding.embedding: 16 done, 1 skipped, 0 cleared, 0 refused, 0 failed" in seen["indexed"]
        said, hiding, late = seen["checks"]
        assert said.startswith("System check identified no issues")
        assert (hiding, late) == ([], ["oscar", "django_visual_search"])

    def test_parents_are_found_and_children_asked_about(self, seen):
        similar = seen["search"]["similar"]
        for name, hits in similar.items():
            asked, _, _ = name.partition("-")
            assert hits == ([] if name == "blank" else sorted(VISIBLE - {asked})), name
        assert seen["search"]["photo"] == ["bare"], "by its child's picture"
        assert set(seen["search"]["after"]) == VISIBLE - {"single0", "deleted"}

    def test_the_product_page_costs_three_queries_more_than_its_cards(self, seen):
        pages = seen["pages"]
        print(pages, seen["seconds"])
        queries = {name: pages[name][0] for name in ("with", "without", "cards")}
        assert len(pages["hits"]) == 8
        assert set(pages["hits"]) <= VISIBLE
        assert queries["with"] - queries["without"] <= queries["cards"] + 3, queries
        sizes = {name: pages[name][1] for name in ("with", "without", "cards")}
        assert sizes["with"] - sizes["without"] <= sizes["cards"] + 5_000, sizes
        assert pages["picture_of_bare"]
        assert all(url.startswith("/media/") for url in seen["thumbnails"])
        assert len(set(seen["thumbnails"])) == 2

    def test_a_guests_purchase_counts_for_what_was_searched(self, seen):
        events = seen["events"]
        bought = ["purchase", "bare", "product", "single0"]
        assert events["placed"] == [bought, ["purchase", "single5", "", ""]]
        assert events["sent back"][2:] == [["return", "single5", "", ""]], "by a shipping event"
        assert events["returned"][2:] == [["return", "single5", "", ""], ["return", "bare", "product", "single0"]]
        assert events["lines"] == [0, 1], "an order for nobody waits for the checkout's own signal"

    def test_the_dashboard_is_for_those_who_may(self, seen):
        staff = seen["dashboard"]
        assert staff["boss"] == [200] * 4
        assert staff["clerk"] == [200, 403, 403, 403]
        assert staff["boss's menu"] == ["", "findability/", "rules/"]
        assert staff["clerk's menu"] == [""]
        assert staff["nobody"].startswith("/dashboard/login/")
        assert staff["findability"] == ["blank"], "not the children of parents that are found"
        assert staff["refused"]
        assert staff["first"] == "single7"
        assert staff["hidden"], "all of one product class"
        assert staff["left"] == 0
        assert staff["redirect"].startswith("/dashboard/catalogue/products/")

    @pytest.mark.parametrize("dark", [False, True])
    def test_in_a_browser(self, shop, seen, address, browser, dark):  # noqa: F811
        tone = "dark" if dark else "light"
        (photo,) = (shop.folder / "media").rglob("bare-child-0.jpg")
        with opened(browser, dark=dark, expected=EXPECTED) as page:
            page.goto(address + seen["urls"]["single0"])
            similar = page.locator(".visual-search-similar")
            assert similar.locator("article.product_pod").count() == 8
            assert similar.locator("img").evaluate_all("all => all.every(one => one.complete && one.naturalWidth)")
            shot(page, f"oscar-product-{tone}")
            follow(page, page.get_by_role("link", name="Search by photo").click)
            for selector in ("input[type=file]", ".visual-search-lead", ".visual-search-note"):
                assert contrast(page.evaluate(COLOURS, selector)) >= 4.5, selector
            shot(page, f"oscar-form-{tone}")
            page.locator("input[type=file]").first.set_input_files(
                {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo.read_bytes()}
            )
            found = page.locator(".visual-search-found .visual-search-cards article.product_pod")
            found.first.wait_for()
            assert found.count() == len(VISIBLE) - 1, "without the deleted one"
            assert "visual-search/photo/catalogue/product/" in page.url
            shot(page, f"oscar-photo-{tone}")
            if dark:
                return
            page.set_viewport_size(MOBILE)
            assert wider_than_the_window(page) == 0
            shot(page, "oscar-photo-mobile")

    def test_the_dashboard_in_a_browser(self, address, browser, seen):  # noqa: F811
        with opened(browser, dark=True, expected=EXPECTED) as page:
            page.context.add_cookies([{"name": "sessionid", "value": seen["dashboard"]["session"], "url": address}])
            page.goto(f"{address}/dashboard/visual-search/")
            page.locator(".visual-search-field .visual-search-status").first.wait_for()
            assert contrast(page.evaluate(COLOURS, ".visual-search-status")) >= 4.5
            shot(page, "oscar-status")
            page.goto(f"{address}/dashboard/visual-search/findability/")
            assert page.locator(".visual-search-unfindable tbody tr").count() == 1
            shot(page, "oscar-findability")
            page.goto(f"{address}/dashboard/visual-search/rules/create/")
            page.locator(".select2-container").first.wait_for()
            shot(page, "oscar-rule")
