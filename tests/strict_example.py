"""Settings of the example shop with a sweep each second, and a middleware for a strict content security policy."""

from example_project.settings import *  # noqa: F403
from example_project.settings import CELERY_BEAT_SCHEDULE, MIDDLEWARE

MIDDLEWARE = ["tests.strict_example.strict", *MIDDLEWARE]
CELERY_BEAT_SCHEDULE["visual-search-sweep"]["schedule"] = 1


def strict(get_response):
    """Let browsers run and load only what the shop serves."""

    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data:"
        return response

    return middleware
