"""``POST objects/`` and ``search-by-image/`` with ``objects``: boxes and hits, with the limits of a photo search."""

import pytest
from django.core.cache import cache
from django.urls import reverse

from django_visual_search import search
from django_visual_search.models import SearchLog
from django_visual_search.storefront.gate import photo_slot

from ..conftest import picture
from ..shop_api import FIELD, all_pages, data_url, make_products, photo, post_json
from ..testshop.models import Product

pytestmark = pytest.mark.django_db
OBJECTS, SEARCH = "/api/products/objects/", "/api/products/search-by-image/"


def halves(photo):
    return [((0, 0, 0.5, 1), 0.75, "left"), (0.5, 0, 1, 1)]


@pytest.fixture(autouse=True)
def detector(settings):
    cache.clear()
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "DETECTOR": halves}


def test_boxes(client):
    expected = [
        {"box": [0, 0, 0.5, 1], "score": 0.75, "name": "left"},
        {"box": [0.5, 0, 1, 1], "score": 0, "name": ""},
        {"box": [0, 0, 1, 1], "score": 0, "name": ""},
    ]
    default = reverse("visual_search:objects", args=["testshop", "product"])
    for path in (OBJECTS, default):
        assert client.post(path, {"image": photo()}).json() == {"objects": expected}
        assert post_json(client, path, {"image": data_url()}).json() == {"objects": expected}
    assert not SearchLog.objects.exists()


def test_boxes_of_the_network(client, settings, run_folder):
    changed = {"DETECTOR": None, "CACHE_DIR": str(run_folder / "objects")}
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **changed}
    found = client.post(OBJECTS, {"image": photo()}).json()["objects"]
    assert [one["box"] for one in found] == [list(one.box) for one in search.find_objects(picture(1), FIELD)]
    assert found[-1]["box"] == [0, 0, 1, 1]


def test_hits_of_each_object(client):
    """The page is the whole photo's; each object has a page of its own, which can be continued."""
    make_products(30)
    answer = client.post(SEARCH, {"image": photo(), "objects": "true", "limit": "4"})
    page = answer.json()
    found = search.search_objects(picture(1), FIELD, limit=4, ranking=False, within=Product.objects.all())
    ids = [[str(hit.product.pk) for hit in one.results] for one in found]
    pages = [*page["objects"], page]
    assert [[hit["id"] for hit in one["results"]] for one in pages] == ids
    assert [one["box"] for one in page["objects"]] == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    assert page["facets"]
    assert page["objects"][0]["facets"] is None
    assert len({one["token"] for one in pages}) == 3
    again = client.get(page["objects"][0]["next"]).json()
    assert [hit["rank"] for hit in again["results"]] == [5, 6, 7, 8]
    assert len(all_pages(client, client.get(page["objects"][1]["next"]))) == 26
    assert SearchLog.objects.count() == 1
    assert "objects" not in client.post(SEARCH, {"image": photo()}).json()


def test_filters_and_json(client):
    products = make_products(6)
    page = post_json(client, f"{SEARCH}?price_max=1", {"image": data_url(), "objects": True}).json()
    for one in [*page["objects"], page]:
        assert {hit["id"] for hit in one["results"]} == {str(product.pk) for product in products[:2]}


@pytest.mark.parametrize(
    ("path", "fields", "faulty"),
    [
        (SEARCH, {"objects": "true", "crop": "0,0,1,1"}, "objects"),
        (SEARCH, {"objects": "maybe"}, "objects"),
        (OBJECTS, {"limit": "3"}, "limit"),
        (OBJECTS, {"objects": "true"}, "objects"),
        (OBJECTS, {"image": ""}, "image"),
        (f"{OBJECTS}?nonsense=1", {}, "nonsense"),
    ],
)
def test_refused(client, path, fields, faulty):
    answer = client.post(path, {"image": photo(), **fields})
    assert (answer.status_code, list(answer.json())) == (400, [faulty])


@pytest.mark.parametrize(("path", "fields"), [(OBJECTS, {}), (SEARCH, {"objects": "true"})])
class TestLimits:
    def test_no_photo(self, client, path, fields):
        broken = photo()
        broken.file.write(b"nonsense")
        broken.file.seek(0)
        answer = client.post(path, {"image": broken, **fields})
        assert (answer.status_code, answer.json()["code"]) == (415, "format")

    def test_full(self, client, settings, path, fields):
        """Both take the one slot of a photo search."""
        with photo_slot():
            answer = client.post(path, {"image": photo(), **fields})
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer["Retry-After"]) > 0
        assert client.post(path, {"image": photo(), **fields}).status_code == 200

    def test_rate(self, client, settings, path, fields):
        """Both count as photo searches."""
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THROTTLE_RATES": {"photo": "2/min"}}
        statuses = [client.post(SEARCH, {"image": photo()}).status_code]
        statuses += [client.post(path, {"image": photo(), **fields}).status_code for _ in range(2)]
        assert statuses == [200, 200, 429]

    def test_length(self, client, path, fields):
        answer = client.generic("POST", path, b"x" * 22_000_000, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 413
