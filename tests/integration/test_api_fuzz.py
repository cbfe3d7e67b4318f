"""Fuzzing by schemathesis against our own schema, through the WSGI application: no 500, only described responses."""

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.specs.openapi import checks

from ..conftest import picture
from ..shop_api import data_url, make_articles, make_posters, make_products

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


schema = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
schema.app = get_wsgi_application()
# Only our own operations.
ours = schema.include(path_regex="similar|search-by-image|feedback")


@pytest.fixture
def shop(settings):
    """Return existing keys, by the first part of the path."""
    cache.clear()
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "THROTTLE_RATES": dict.fromkeys(("similar", "photo", "feedback")),
    }
    make_articles(3)
    # As Django's own test client does: the connection has the test's transaction.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield {"product": make_products(8)[0].pk, "poster": str(make_posters(8)[0].pk)}
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.mark.parametrize("operation", [found.ok() for found in ours.get_all_operations()], ids=lambda one: one.label)
def test_nothing_breaks(operation, shop):
    """``schema.parametrize`` would find all cases wherever tests are collected, though one process runs them."""
    [alone] = schema.include(path=operation.path, method=operation.method).get_all_operations()
    config = HypothesisTestConfig(project=schema.config, modes=list(HypothesisTestMode))
    create_test(operation=alone.ok(), test_func=nothing_breaks, config=config)(shop=shop)


@settings(
    max_examples=settings.default.max_examples,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def nothing_breaks(case, shop):
    real_body = make_some_of_it_real(case, shop)
    response = case.call()
    expectations = [not_a_server_error, checks.status_code_conformance, checks.response_schema_conformance]
    if response.status_code != 404:  # Django's own response to an unknown URL
        expectations.append(checks.content_type_conformance)
    # Filters of products take a price that no product can have; and what was wrong with a body is gone with its
    # image.
    if "/products/" not in case.path and not real_body:
        expectations.append(checks.negative_data_rejection)
    case.validate_response(response, checks=expectations)


def make_some_of_it_real(case, shop):
    """Put real keys and a real picture into half of the cases, as random ones are never valid.

    Return whether the body has a real picture.
    """
    path = case.meta.components.get(ParameterLocation.PATH)
    if len(repr(case.query)) % 2 and not (path and path.mode.is_negative):
        keys = {"id": shop["product" if "/products/" in case.path else "poster"], "product": shop["product"]}
        for name, key in keys.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = key
        if "model_name" in (case.path_parameters or {}):
            case.path_parameters["app_label"], case.path_parameters["model_name"] = "testshop", "product"
    if isinstance(case.body, dict) and "image" in case.body and len(repr(case.body)) % 2:
        case.body["image"] = data_url() if case.media_type == "application/json" else picture(1)
        return True
    return False
