"""Whose page a browser reports from: any site could make its own visitors speak as if they were the shop's."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import is_same_domain

OWN = ("same-origin", "same-site", "none")
"""Values of Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/) that a page of another site never has."""


def is_foreign(request: HttpRequest) -> bool:
    """Whether the page is of another site, and not of one that ``CSRF_TRUSTED_ORIGINS`` names.

    Browsers write both headers, and pages can't. Programs that are no browsers write what they like or nothing, but
    have only their own address to speak from.
    """
    origin, site = (request.META.get(f"HTTP_{name}", "") for name in ("ORIGIN", "SEC_FETCH_SITE"))
    if site in OWN or not (origin or site):
        return False
    try:
        said = urlsplit(origin.lower())
    except ValueError:
        return True
    if any(_matches(said, urlsplit(trusted.lower())) for trusted in settings.CSRF_TRUSTED_ORIGINS):
        return False
    # Browsers that say no more than the origin are older than 2023.
    return bool(site) or said.netloc != request.get_host().lower()


def _matches(said: tuple[str, ...], trusted: tuple[str, ...]) -> bool:
    """Scheme and host; ``*.example.com`` stands for all its subdomains."""
    return said[0] == trusted[0] and is_same_domain(said[1], trusted[1].removeprefix("*"))
