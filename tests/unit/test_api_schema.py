"""OpenAPI describes every path without a warning; the API works without drf-spectacular and django-filter."""

import subprocess
import sys

import pytest
import yaml
from django.core.management import call_command

from ..example import ROOT


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    file = tmp_path_factory.mktemp("schema") / "schema.yml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(file))
    return yaml.safe_load(file.read_text())


def operation(schema, path, method):
    return schema["paths"][path][method]


def resolved(schema, reference):
    return schema["components"]["schemas"][reference["$ref"].rpartition("/")[2]]


OURS = "/api/products/search-by-image/"
DEFAULT = "/visual-search/{app_label}/{model_name}/search-by-image/"


class TestSchema:
    def test_every_path_is_described(self, schema):
        assert {
            "/api/products/{id}/similar/",
            OURS,
            "/api/posters/{id}/similar/",
            "/visual-search/{app_label}/{model_name}/{product}/similar/",
            DEFAULT,
            "/visual-search/feedback/",
        } <= set(schema["paths"])

    @pytest.mark.parametrize("path", [OURS, DEFAULT])
    def test_uploads_are_binary_and_json_is_a_data_url(self, schema, path):
        content = operation(schema, path, "post")["requestBody"]["content"]
        upload = resolved(schema, content["multipart/form-data"]["schema"])
        data = resolved(schema, content["application/json"]["schema"])
        assert upload["properties"]["image"]["format"] == "binary"
        assert upload["required"] == data["required"] == ["image"]
        assert data["properties"]["image"]["pattern"].startswith("^data:")
        assert data["properties"]["crop"]["minItems"] == 4
        assert upload["properties"]["text"]["maxLength"] == data["properties"]["text"]["maxLength"] == 200

    def test_objects(self, schema):
        for path in ("/api/products/objects/", "/visual-search/{app_label}/{model_name}/objects/"):
            described = operation(schema, path, "post")
            upload = resolved(schema, described["requestBody"]["content"]["multipart/form-data"]["schema"])
            assert list(upload["properties"]) == upload["required"] == ["image"]
            answer = described["responses"]["200"]["content"]["application/json"]["schema"]
            found = resolved(schema, resolved(schema, answer)["properties"]["objects"]["items"])
            assert set(found["properties"]) == {"box", "score", "name"}
            assert (found["properties"]["box"]["minItems"], found["properties"]["box"]["maxItems"]) == (4, 4)

    def test_a_photo_search_may_have_a_page_for_each_object(self, schema):
        answer = operation(schema, OURS, "post")["responses"]["200"]["content"]["application/json"]["schema"]
        page = resolved(schema, answer)
        assert "objects" not in page["required"]
        part = resolved(schema, page["properties"]["objects"]["items"])
        assert {"box", "score", "name", "next", "token", "results"} <= set(part["properties"])
        further = operation(schema, OURS, "get")["responses"]["200"]["content"]["application/json"]["schema"]
        assert "objects" not in resolved(schema, further)["properties"]

    def test_a_search_by_text_needs_a_text(self, schema):
        for path in ("/api/products/search-by-text/", "/visual-search/{app_label}/{model_name}/search-by-text/"):
            names = {one["name"]: one for one in operation(schema, path, "get")["parameters"]}
            assert names["text"]["required"] is True
            assert "min_confidence" not in names
            assert {"limit", "cursor", "ranking"} <= set(names)
        assert "text" in {one["name"] for one in operation(schema, "/api/products/{id}/similar/", "get")["parameters"]}

    def test_hits_are_as_the_viewsets_serializer_shows_products(self, schema):
        for path, component in (
            ("/api/products/{id}/similar/", "Product"),
            ("/api/posters/{id}/similar/", "Poster"),
            ("/visual-search/{app_label}/{model_name}/{product}/similar/", "PlainProduct"),
        ):
            answer = operation(schema, path, "get")["responses"]["200"]["content"]["application/json"]["schema"]
            hits = resolved(schema, answer)["properties"]["results"]["items"]
            product = resolved(schema, hits)["properties"]["product"]
            assert product == {"$ref": f"#/components/schemas/{component}"}

    def test_filters_are_the_viewsets(self, schema):
        parameters = operation(schema, "/api/products/{id}/similar/", "get")["parameters"]
        names = {parameter["name"] for parameter in parameters}
        assert {"category", "price_min", "search", "limit", "min_similarity", "ranking", "cursor"} <= names
        assert "page" not in names

    def test_error_responses(self, schema):
        responses = operation(schema, OURS, "post")["responses"]
        assert set(responses) == {"200", "400", "404", "411", "413", "415", "429", "503"}
        assert set(operation(schema, "/visual-search/feedback/", "post")["responses"]) == {
            "202",
            "400",
            "403",
            "411",
            "413",
            "415",
            "429",
        }

    def test_the_shops_own_descriptions_stay(self, schema):
        assert "mixin" not in operation(schema, "/api/products/", "get").get("description", "").lower()
        assert "Without filters" in operation(schema, "/api/posters/", "get")["description"]


BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("drf_spectacular", "django_filters"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from tests import settings as shop
shop.INSTALLED_APPS = [app for app in shop.INSTALLED_APPS if app not in ("drf_spectacular", "django_filters")]
del shop.REST_FRAMEWORK
shop.ROOT_URLCONF = "bare_urls"
shop.ALLOWED_HOSTS = ["testserver"]
import types
urls = types.ModuleType("bare_urls")
sys.modules["bare_urls"] = urls

import django
django.setup()
from django.urls import include, path
from rest_framework import routers, serializers, viewsets
from rest_framework.filters import SearchFilter
from django_visual_search.api import VisualSearchMixin
from tests.testshop.models import Product

class Plain(serializers.ModelSerializer):
    class Meta:
        model = Product
        fields = ["id"]

class Products(VisualSearchMixin, viewsets.ReadOnlyModelViewSet):
    queryset = Product.objects.all()
    serializer_class = Plain
    filter_backends = [SearchFilter]
    search_fields = ["name"]

router = routers.SimpleRouter()
router.register("products", Products)
urls.urlpatterns = [path("vs/", include("django_visual_search.urls")), path("", include(router.urls))]

from django.test import Client
client = Client(raise_request_exception=True)
print(client.get("/products/search-by-image/?nonsense=1").json())
print(client.post("/products/search-by-image/", {"limit": "5"}).json())
print(client.post("/vs/testshop/product/search-by-image/", "{}", content_type="application/json").json())
print(client.post("/vs/feedback/", "{}", content_type="text/plain").json())
print(any(name.startswith(("drf_spectacular", "django_filters")) for name in sys.modules))
"""


def test_without_the_extra(tmp_path):
    """The package needs neither drf-spectacular nor django-filter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    unknown, upload, data, report, loaded = done.stdout.splitlines()
    assert "Accepted parameters: cursor, format, limit, search." in unknown
    assert "'image': [\"Send the photo as a file" in upload
    assert "'image': [\"Send the photo as a data URL" in data
    assert "token" in report
    assert loaded == "False"
