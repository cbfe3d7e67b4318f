"""Settings of the example shop with a queue of its own, a sweep each second and a strict content security policy."""

from django.conf import global_settings

from example_project.settings import *  # noqa: F403
from example_project.settings import CELERY_BEAT_SCHEDULE, EXAMPLE_DIR, MIDDLEWARE, VISUAL_SEARCH

MIDDLEWARE = ["tests.strict_example.strict", *MIDDLEWARE]
# A member of staff logs in for each test: the default takes half a second of processor time to check a password.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *global_settings.PASSWORD_HASHERS]
VISUAL_SEARCH["QUEUE"] = EXAMPLE_DIR.parent.name
VISUAL_SEARCH["THROTTLE_RATES"] = {"photo": "600/min"}
CELERY_BEAT_SCHEDULE["visual-search-sweep"] |= {"schedule": 1, "options": {"queue": VISUAL_SEARCH["QUEUE"]}}


def strict(get_response):
    """Let browsers run and load only what the shop serves."""

    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return middleware
