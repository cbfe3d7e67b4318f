"""A real Chromium, driven by Playwright, for tests of pages that the example shop serves (``tests/example.py``).

from .browser import browser, opened, shot  # noqa: F401
from .example import example  # noqa: F401

def test_it(browser, example):  # noqa: F811
    with example.server() as address, opened(browser, dark=True) as page:
        page.goto(address)
        shot(page, "list-dark")
"""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import os
import re
from pathlib import Path

import pytest

from .conftest import missing_service

CHROMIUM = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
"""The first that is installed. The shell is the same browser without windows and menus around its pages, which took
three quarters of the browser's processor time."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
MOBILE = {"width": 390, "height": 844}
LEAVING = r"ERR_ABORTED .*/(media|feedback|objects|static)/"
"""A complaint to expect of a page that is left while it loads; its beacons continue."""
NO_ICON = r"404 .*/favicon\.ico"


# Not for the session: while it is open, Playwright's event loop keeps Django's database out of this thread.
@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing_service("Playwright is not installed")
    installed = next(filter(os.path.exists, CHROMIUM), None)
    if installed is None:
        missing_service(f"there is none of {', '.join(CHROMIUM)}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=installed, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser, viewport=DESKTOP, *, dark=False, cookies=True, expected=(), **options):
    """A page in a context of its own; fails at the end if the console or the network had anything to complain about.

    ``cookies``: False for a browser that keeps none. ``expected``: regular expressions of complaints that are part of
    the test, such as ``"status of 422"``. ``options``: those of Playwright's ``new_context``.

    Pages come as slowly as the kilobits a second that BROWSER_KILOBITS names, by default as fast as they can. With 500,
    tests fail that look at a page before it is there, which else happens now and then on a busy machine.
    """
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    if kilobits := os.environ.get("BROWSER_KILOBITS"):
        limit(page, int(kilobits))
    if not cookies:
        context.new_cdp_session(page).send("Emulation.setDocumentCookieDisabled", {"disabled": True})
        # Only pages are looked at: what is routed while its page goes away, as a beacon is, may get lost.
        context.route(re.compile(r"^[^?]*/(\?.*)?$"), lambda route: _without_cookies(context, route))
    complaints = []
    page.on("console", lambda said: said.type in ("error", "warning") and complaints.append(_text(said)))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.failure} {request.url} ({request.method})"))
    try:
        yield page
        left = [said for said in complaints if not any(re.search(pattern, said) for pattern in expected)]
        assert not left, "\n".join(left)
    finally:
        context.close()


def _text(said):
    return f"{said.text} {said.location['url']}"


def _without_cookies(context, route):
    if route.request.resource_type != "document":
        return route.continue_()
    answer = route.fetch(max_redirects=0)
    context.clear_cookies()  # the fetch kept them
    return route.fulfill(response=answer, headers={k: v for k, v in answer.headers.items() if k != "set-cookie"})


def shot(page, name, **options):
    """A screenshot in the folder SCREENSHOTS names, for people to look at; nothing without it."""
    if folder := os.environ.get("SCREENSHOTS"):
        path = Path(folder) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, **{"full_page": True, **options})


def wider_than_the_window(page):
    """How many pixels a page would have to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def violations(page, rules=None, within="html", without=()):
    """What axe-core (https://github.com/dequelabs/axe-core) finds on the page: a line for each rule that it breaks.

    ``rules``: names of the only rules to try, by default all. ``within``, ``without``: selectors of what to look at.
    """
    if importlib.util.find_spec("axe_playwright_python") is None:
        missing_service("axe-playwright-python, which brings axe-core, is not installed")
    # Evaluated by the debugger, which a content security policy does not stop.
    if not page.evaluate("'axe' in window"):
        page.evaluate(importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
    # Without preloading of style sheets, which a policy stops, and which only a rule about orientation needs.
    run = """([rules, include, exclude]) => {
        for (const running of document.getAnimations()) running.finish(); // colours that fade from one to another
        const how = {resultTypes: ["violations"], preload: false, ...(rules && {runOnly: rules})};
        return axe.run({include, exclude}, how);
    }"""
    found = page.evaluate(run, [rules, [within], [[one] for one in without]])["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


def follow(page, lead):
    """Do what leads to another page, and wait until that is loaded: a click returns while it is on its way."""
    with page.expect_navigation():
        lead()


def limit(page, kilobits=750, latency=40):
    """Send and receive no faster than a slow mobile connection, until the session that is returned is detached.

    ``kilobits``: a second. ``latency``: milliseconds.
    """
    session = page.context.new_cdp_session(page)
    rate = kilobits * 1000 / 8
    limits = {"offline": False, "latency": latency, "downloadThroughput": rate, "uploadThroughput": rate}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", limits)
    return session
