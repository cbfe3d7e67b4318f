"""Rates per visitor, the gate of photo search, sizes of requests, and the errors for invalid requests."""

import base64
import json

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from django_visual_search import images
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.storefront import refusals, uploads
from django_visual_search.storefront.gate import photo_slot

from ..conftest import picture
from ..image_files import encode, png, quadrants
from ..shop_api import data_url, ids, make_products, photo, post_json, search_by_photo
from ..testshop.extractors import ColourExtractor

pytestmark = pytest.mark.django_db
OURS, DEFAULT = "/api/products/search-by-image/", "/visual-search/testshop/product/search-by-image/"
both = pytest.mark.parametrize("path", [OURS, DEFAULT])


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


@pytest.fixture
def configure(settings):
    """Return a function that changes keys of VISUAL_SEARCH."""

    def change(**keys):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **keys}

    return change


class Unavailable(ColourExtractor):
    def __call__(self, images):
        raise ExtractorUnavailable("Run reindex_embeddings on the machine called db-internal-3.")


class TestRates:
    @both
    def test_of_photos(self, client, configure, path):
        configure(THROTTLE_RATES={"photo": "2/min"})
        make_products(2)
        for _ in range(2):
            assert search_by_photo(client, path).status_code == 200
        answer = search_by_photo(client, path)
        assert answer.status_code == 429
        assert 1 <= int(answer["Retry-After"]) <= 60

    def test_similar_items_have_their_own_rate(self, client, configure):
        configure(THROTTLE_RATES={"photo": "1/min", "similar": "3/min"})
        products = make_products(30)
        path = f"/api/products/{products[0].pk}/similar/"
        first = search_by_photo(client, OURS)
        assert search_by_photo(client, OURS).status_code == 429
        assert client.get(first.json()["next"]).status_code == 200  # a further page needs no photo
        assert [client.get(path).status_code for _ in range(3)] == [200, 200, 429]

    def test_by_visitor(self, client, configure):
        configure(THROTTLE_RATES={"photo": "1/min"})
        make_products(2)
        users = [User.objects.create_user(name) for name in "ab"]
        for user in users:
            client.force_login(user)
            # With a session DRF requires the CSRF token; the test client needs none.
            assert search_by_photo(client, OURS).status_code == 200
            assert search_by_photo(client, OURS).status_code == 429
        client.logout()
        for address in ("10.1.1.1", "10.1.1.2"):
            post = lambda: client.post(OURS, {"image": photo()}, REMOTE_ADDR=address)  # noqa: B023, E731
            assert [post().status_code, post().status_code] == [200, 429]

    def test_by_the_shops_client_address(self, client, configure):
        configure(THROTTLE_RATES={"photo": "1/min"}, CLIENT_ADDRESS=lambda request: request.META["HTTP_X_CLIENT"])
        make_products(2)

        def post(address):
            return client.post(OURS, {"image": photo()}, headers={"x-client": address}).status_code

        assert [post("192.0.2.1"), post("192.0.2.2"), post("192.0.2.1")] == [200, 200, 429]
        # One customer has a whole network of IPv6 addresses.
        assert [post("2001:db8:1:2::1"), post("2001:db8:1:2:ffff::9")] == [200, 429]

    @pytest.mark.parametrize(
        ("came_from", "proxies", "statuses"),
        [
            ("8.8.8.8", None, [200, 429]),  # not a proxy: the visitor wrote the header
            ("10.0.0.1", None, [200, 200]),
            ("8.8.8.8", 1, [200, 200]),  # NUM_PROXIES says that this is a proxy
        ],
    )
    def test_a_forged_header_does_not_raise_the_rate(self, client, configure, settings, came_from, proxies, statuses):
        configure(THROTTLE_RATES={"photo": "1/min"})
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
        make_products(2)
        found = [
            client.post(
                OURS, {"image": photo()}, REMOTE_ADDR=came_from, headers={"x-forwarded-for": f"9.9.9.{n}"}
            ).status_code
            for n in range(2)
        ]
        assert found == statuses

    def test_headers_of_any_kind(self, client):
        product, *_ = make_products(2)
        for header in ("x" * 5000, "1.2.3.4,\x7f \x01", "é"):
            answer = client.get(f"/api/products/{product.pk}/similar/", headers={"x-forwarded-for": header})
            assert answer.status_code == 200

    def test_none_is_no_limit(self, client, configure):
        configure(THROTTLE_RATES={"photo": None})
        make_products(1)
        assert {search_by_photo(client, OURS).status_code for _ in range(40)} == {200}

    def test_by_default(self, client):
        make_products(1)
        answers = [search_by_photo(client, OURS).status_code for _ in range(31)]
        assert answers == [200] * 30 + [429]


class TestGate:
    @both
    def test_one_photo_search_too_many(self, client, configure, path):
        configure(PHOTO_SEARCHES_AT_ONCE=1)
        products = make_products(2)
        with photo_slot():
            answer = search_by_photo(client, path)
            assert answer.status_code == 503
            assert int(answer["Retry-After"]) >= 1
            assert answer.json()["code"] == "busy"
            assert client.get(f"/api/products/{products[0].pk}/similar/").status_code == 200
        assert search_by_photo(client, path).status_code == 200

    def test_a_refused_photo_gives_its_slot_back(self, client, configure):
        configure(PHOTO_SEARCHES_AT_ONCE=1)
        make_products(2)
        for _ in range(3):
            assert client.post(OURS, {"image": SimpleUploadedFile("x.jpg", b"no picture")}).status_code == 415
        assert search_by_photo(client, OURS).status_code == 200

    def test_an_invalid_request_takes_no_slot(self, client, configure):
        configure(PHOTO_SEARCHES_AT_ONCE=1)
        with photo_slot():
            assert search_by_photo(client, OURS, limit=0).status_code == 400


class TestPhotos:
    """Every code of a refused picture."""

    @both
    @pytest.mark.parametrize(
        ("data", "status", "code"),
        [
            (b"", 400, "empty"),
            (b"plain text, whatever it is called", 415, "format"),
            (b"%PDF-1.7", 415, "format"),
            (encode(quadrants(), "PNG")[:120], 400, "corrupt"),
            (png(20_000, 20_000), 400, "pixels"),
            (encode(Image.new("RGB", (4, 4)), "PNG"), 400, "side"),
        ],
    )
    def test_refused(self, client, path, data, status, code):
        make_products(1)
        answer = client.post(path, {"image": SimpleUploadedFile("x.jpg", data)})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["detail"].endswith(".")
        answer = post_json(client, path, {"image": "data:image/jpeg;base64," + base64.b64encode(data).decode()})
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_every_status_belongs_to_a_code(self):
        assert set(refusals.STATUS) <= set(images.CODES)

    def test_a_crop_that_is_too_small(self, client):
        answer = search_by_photo(client, OURS, crop="0.5,0.5,0.501,0.501")
        assert (answer.status_code, answer.json()["code"]) == (400, "crop")

    def test_a_file_that_is_too_large(self, client):
        most = images.ImageOptions().max_bytes
        answer = client.post(OURS, {"image": SimpleUploadedFile("x.jpg", b"\0" * (most + 1))})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "20 MB" in answer.json()["detail"]

    def test_any_file_of_the_right_size(self, client):
        make_products(1)
        most = images.ImageOptions().max_bytes
        data = encode(quadrants())
        answer = client.post(OURS, {"image": SimpleUploadedFile("x.jpg", data + b"\0" * (most - len(data)))})
        assert answer.status_code == 200

    @both
    def test_the_extractor_can_not_run(self, client, configure, caplog, path):
        make_products(1)
        configure(EXTRACTORS={"default": {"BACKEND": f"{__name__}.Unavailable"}})
        answer = search_by_photo(client, path)
        assert answer.status_code == 503
        assert answer.json() == {"detail": "Photo search is not available at the moment.", "code": "unavailable"}
        assert "db-internal-3" in caplog.text  # for the shop's operators


class TestSizes:
    """Requests are refused by Content-Length, before the body is read and the visitor authenticated."""

    @both
    def test_60_megabytes(self, client, path):
        for kind in ("multipart/form-data; boundary=x", "application/json", "text/plain", "image/jpeg", ""):
            answer = client.generic("POST", path, b"x" * 60_000_000, content_type=kind)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), kind

    def test_a_refused_body_is_drained(self, client, rf):
        """Otherwise the server resets the connection, and the client never sees the response."""
        request = rf.generic("POST", OURS, b"x" * 30_000_000, content_type="application/json")
        uploads.drain(request)
        assert request.read() == b""

    def test_json_is_limited_by_djangos_setting(self, client, settings):
        make_products(1)
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = len(json.dumps({"image": data_url()}))
        assert post_json(client, OURS, {"image": data_url()}).status_code == 200
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE -= 1
        answer = post_json(client, OURS, {"image": data_url()})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "multipart/form-data" in answer.json()["detail"]
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
        assert post_json(client, OURS, {"image": data_url()}).status_code == 200

    def test_fields_beside_the_photo(self, client):
        answer = search_by_photo(client, OURS, text="x" * 3_000_000)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    def test_too_many_fields(self, client):
        answer = search_by_photo(client, OURS, **{f"f{i}": "" for i in range(2000)})
        assert (answer.status_code, answer.json()["code"]) == (400, "too_many_fields")
        answer = client.post(OURS, {f"f{i}": photo() for i in range(200)})
        assert (answer.status_code, answer.json()["code"]) == (400, "too_many_fields")

    def test_size_is_checked_before_the_csrf_token(self, settings):
        from django.test import Client

        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create_user("ann"))
        answer = client.generic("POST", OURS, b"x" * 30_000_000, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 413
        # Broken, and read for the token.
        answer = client.generic("POST", OURS, b"x" * 30_000, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 403
        answer = search_by_photo(client, OURS)
        assert answer.status_code == 403
        assert "CSRF" in answer.json()["detail"]


def raw(client, body, kind, path=OURS, **headers):
    return client.generic("POST", path, body, content_type=kind, **headers)


PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'


class TestMalformed:
    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"", "multipart/form-data; boundary=x", 400),
            (b"nothing", "multipart/form-data; boundary=x", 400),
            (PART + picture(1) + b"\r\n--x--\r\n", "multipart/form-data; boundary=y", 400),
            (PART + picture(1) + b"\r\n--x--\r\n", "multipart/form-data", 400),
            (PART + picture(1) + b"\r\n--x--\r\n", "multipart/form-data; boundary=", 400),
            (PART + picture(1) + b"\r\n--x--\r\n", "multipart/form-data; boundary=" + "y" * 300, 415),
            (PART + picture(1) + b"\r\n--x--\r\n", 'multipart/form-data; boundary="é"', 400),
            (PART, "multipart/form-data; boundary=x", 400),
            (PART + picture(1)[:500], "multipart/form-data; boundary=x", 400),
            (PART.replace(b"image/jpeg", b"image/jpeg\r\nContent-Transfer-Encoding: base64") + b"!", None, 400),
            (PART.replace(b'"image"', b'"im\0age"') + picture(1) + b"\r\n--x--\r\n", None, 400),
            (PART.replace(b'"a.jpg"', b'"..\\0/../a"') + picture(1) + b"\r\n--x--\r\n", None, 200),
            (PART.replace(b'; filename="a.jpg"', b"") + picture(1) + b"\r\n--x--\r\n", None, 400),
            (PART.replace(b"a.jpg", b"") + picture(1) + b"\r\n--x--\r\n", None, 400),
            (PART.replace(b"a.jpg", b"a" * 70_000) + picture(1) + b"\r\n--x--\r\n", None, 400),
            (b"image=x", "application/x-www-form-urlencoded", 415),
            (picture(1), "image/jpeg", 415),
            (b"{}", "application/xml", 415),
            (b"{}", "nonsense", 415),
            (b"{}", "", 415),
            (b"{", "application/json", 400),
            (b"\xff\xfe", "application/json", 400),
            (b"\0", "application/json", 400),
            (b'{"image": NaN}', "application/json", 400),
            (b"[" * 100_000, "application/json", 400),
            (b'{"a":' * 100_000, "application/json", 400),
            (b"9" * 100_000, "application/json", 400),
            (b"[]", "application/json", 400),
            (b"null", "application/json", 400),
            (b'"text"', "application/json", 400),
            (b"{}", "application/json; charset=nonsense", 400),
            *[
                request
                for charset in ("zlib", "utf-16", "idna", "rot13")
                for request in (
                    (b"{}", f"application/json; charset={charset}", 415),
                    (PART + picture(1) + b"\r\n--x--\r\n", f"multipart/form-data; boundary=x; charset={charset}", 415),
                )
            ],
            (PART + picture(1) + b"\r\n--x--\r\n", "multipart/form-data; boundary=x; charset=UTF8", 200),
        ],
    )
    @both
    def test_requests(self, client, path, body, kind, status):
        make_products(1)
        kind = "multipart/form-data; boundary=x" if kind is None else kind
        answer = raw(client, body, kind, path)
        assert answer.status_code == status, answer.content
        assert answer["Content-Type"] == "application/json"
        assert answer.json()

    @pytest.mark.parametrize(
        "image",
        [
            "",
            "data:",
            "data:,",
            "data:image/jpeg,abc",
            "data:image/jpeg;base64",
            "data:image/jpeg;base64,%%%",
            "data:image/jpeg;base64,A",
            "data:image/jpeg;base64,AA=A",
            "data:image/jpeg;base64,é",
            "data:image/jpeg;base64,\0",
            "data:image/jpeg;base64,\ud800",
            "https://example.com/a.jpg",
            "file:///etc/passwd",
            "/9j/4AAQSkZJRg==",
            5,
            None,
            True,
            [],
            {"a": 1},
            ["data:image/jpeg;base64,AAAA"],
        ],
    )
    def test_images_in_json(self, client, image):
        make_products(1)
        answer = post_json(client, OURS, {"image": image})
        assert answer.status_code == 400
        assert answer.json()["image"][0].endswith(".")

    def test_an_empty_data_url(self, client):
        assert post_json(client, OURS, {"image": "data:;base64,"}).json()["code"] == "empty"

    @pytest.mark.parametrize(
        "limit",
        ["-1", "0", "51", "1e9", "1000000000", "9" * 5000, "1e400", "nan", " ", "1.5", "0x5", "\u0665", "1\0"],
    )
    def test_limits(self, client, limit):
        product, *_ = make_products(2)
        message = {"limit": ["This must be a whole number from 1 to 50."]}
        answer = client.get(f"/api/products/{product.pk}/similar/", {"limit": limit})
        assert (answer.status_code, answer.json()) == (400, message)
        answer = search_by_photo(client, OURS, limit=limit)
        assert (answer.status_code, answer.json()) == (400, message)

    def test_an_empty_parameter(self, client):
        """Invalid in a URL and in JSON; a form sends empty fields."""
        product, *_ = make_products(2)
        assert client.get(f"/api/products/{product.pk}/similar/", {"limit": ""}).status_code == 400
        assert post_json(client, OURS, {"image": data_url(), "limit": ""}).status_code == 400
        assert search_by_photo(client, OURS, limit="").status_code == 200

    @pytest.mark.parametrize("limit", ["-1", "0", "1e9", "1e400", "1.0", "true", "null", "[5]", "{}", "9" * 400])
    def test_limits_in_json(self, client, limit):
        answer = post_json(client, OURS, f'{{"image": "{data_url()}", "limit": {limit}}}')
        assert answer.status_code == 400
        assert "limit" in answer.json()

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "x", "", "\0", "9" * 2000])
    def test_minimum_similarity(self, client, value):
        product, *_ = make_products(2)
        answer = client.get(f"/api/products/{product.pk}/similar/", {"min_similarity": value})
        assert answer.status_code == 400
        assert "min_similarity" in answer.json()

    @pytest.mark.parametrize("value", ["1e400", "true", "[]", "{}", '"x"', "9" * 400])
    def test_minimum_similarity_in_json(self, client, value):
        answer = post_json(client, OURS, f'{{"image": "{data_url()}", "min_similarity": {value}}}')
        assert answer.status_code == 400

    @pytest.mark.parametrize("crop", ["0,0,2,2", "0 0 1 1", "[0,0,1,1]", "0,0,1,1e400", "0,0,1,\0", "," * 100_000])
    def test_more_crops(self, client, crop):
        assert search_by_photo(client, OURS, crop=crop).status_code == 400

    @pytest.mark.parametrize(
        "crop",
        [" ", "1", "0,0,1", "0,0,1,1,1", "a,b,c,d", "nan,0,1,1", "0,0,inf,1", "0.5,0,0.5,1", "1,1,0,0", "-1,0,1,1"],
    )
    def test_crops(self, client, crop):
        answer = search_by_photo(client, OURS, crop=crop)
        assert answer.status_code == 400
        assert "crop" in answer.json()["crop"][0]

    @pytest.mark.parametrize(
        "crop",
        [[], [0, 0, 1], [0, 0, 1, None], [0, 0, True, 1], {"0": 0, "1": 0, "2": 1, "3": 1}, 5, None, [[0], 0, 1, 1]],
    )
    def test_crops_in_json(self, client, crop):
        answer = post_json(client, OURS, {"image": data_url(), "crop": crop})
        assert answer.status_code == 400
        assert "crop" in answer.json()

    def test_text(self, client):
        make_products(1)
        for text, status in (("a\0b", 400), ("x" * 201, 400), ('"', 200), ("'' \"", 200), ("%_\\", 200), (",,", 200)):
            assert search_by_photo(client, OURS, text=text).status_code == status, text
        assert post_json(client, OURS, {"image": data_url(), "text": "\ud800"}).status_code == 400

    @pytest.mark.parametrize("name", ["k", "", "\ud800", "image2", "\0"])
    def test_unknown_fields(self, client, name):
        answer = post_json(client, OURS, {"image": data_url(), name: 1})
        assert answer.status_code == 400
        assert "Unknown field" in str(answer.json())

    def test_query_strings(self, client):
        product, *_ = make_products(2)
        path = f"/api/products/{product.pk}/similar/"
        for query in (
            "%00=1",
            "limit=%00",
            "=",
            "&&&",
            "%",
            "%ff=%fe",
            "limit=5&limit=x",
            "search=%00",
            "price_max=1e400",
        ):
            answer = client.get(f"{path}?{query}")
            assert answer.status_code in (200, 400), query

    def test_ids_in_the_address(self, client):
        for pk in ("-1", "1.0", "NaN", "%00", "%ff", "0" * 5000, "1'--", "None"):
            assert client.get(f"/visual-search/testshop/product/{pk}/similar/").status_code == 404


def test_errors_are_json_where_json_is_accepted(client):
    assert ids(search_by_photo(client, OURS)) == []
