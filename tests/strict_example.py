"""Settings of the example shop, and a middleware that lets browsers run and load only what the shop serves."""

from example_project.settings import *  # noqa: F403
from example_project.settings import MIDDLEWARE as SHOPS

MIDDLEWARE = ["tests.strict_example.strict", *SHOPS]


def strict(get_response):
    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data:"
        return response

    return middleware
