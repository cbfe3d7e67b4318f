"""The objects in a photo and a search by each of them, in the test shop; with detectors of the shop's own."""

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from PIL import Image

from django_visual_search import images, search
from django_visual_search.checks.settings import check_values
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.fields.registry import get_field
from django_visual_search.search import detection, query
from django_visual_search.spaces.extractors import extractor_of

from ..conftest import picture
from ..detection_model import write_model
from ..shop_api import FIELD, key_of
from ..still_life import SIZE, overlap, still_life
from ..testshop.models import Product

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def cache(settings, run_folder):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "CACHE_DIR": str(run_folder / "objects")}


def use_detector(settings, detector):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "DETECTOR": detector}


def left_and_right(photo):
    """Find the left half, and the right one with a score and a name."""
    assert photo.mode == "RGB"
    return [(0, 0, 0.5, 1), ((0.5, 0, 1, 1), 0.25, "right")]


def half_pixels(photo):
    return [(0, 0, photo.width, photo.height)]


def product_of(photo, box, name):
    """Create a product whose vector is that of a part of the photo."""
    spec = extractor_of(get_field(FIELD)).spec
    pixels = np.asarray(images.load(photo, options=spec.images, crop=box, size=spec.input_size))
    vector = extractor_of(get_field(FIELD))(pixels[None])[0]
    return Product.objects.create(
        name=name, image=f"{name}.jpg", embedding=vector, embedding_key=f"{key_of()}:{name}.jpg"
    )


class TestFindObjects:
    def test_boxes_best_first_and_the_whole_last(self, db):
        photo, boxes = still_life("table", "mug", "sneaker", "cap")
        found = search.find_objects(photo, FIELD)
        assert 4 <= len(found) <= detection.MOST_OBJECTS
        assert found[-1] == search.FoundObject(WHOLE, 0.0)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert all(max(overlap(one.box, box) for one in found) >= 0.5 for box in boxes)

    def test_boxes_are_of_the_photo_as_a_person_sees_it(self, db, tmp_path):
        """A phone turns its photos by EXIF."""
        photo, boxes = still_life("table", "mug")
        (tmp_path / "a.jpg").write_bytes(photo)
        with Image.open(tmp_path / "a.jpg") as upright:
            exif = Image.Exif()
            exif[0x0112] = 6
            upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.jpg", exif=exif, quality=95)
        first, *_ = search.find_objects((tmp_path / "b.jpg").read_bytes(), FIELD)
        assert overlap(first.box, boxes[0]) >= 0.5

    def test_not_a_photo(self, db):
        with pytest.raises(images.ImageRefused):
            search.find_objects(b"nonsense", FIELD)
        with pytest.raises(LookupError):
            search.find_objects(picture(), "testshop.Nothing")


class TestSearchObjects:
    def test_each_object_finds_its_product(self, db):
        photo, boxes = still_life("table", "mug", "sneaker")
        products = [product_of(photo, box, f"thing{i}") for i, box in enumerate([*boxes, WHOLE])]
        found = search.search_objects(photo, FIELD, limit=2)
        for box, product in zip([*boxes, WHOLE], products, strict=True):
            best = max(found, key=lambda one: overlap(one.object.box, box))
            assert best.results[0].product == product
        assert found[-1].results[0].similarity == pytest.approx(1, abs=1e-2)
        assert all(len(one.results) == 2 for one in found)

    def test_as_many_of_the_best_as_asked_for(self, db):
        photo, _ = still_life("table", "mug", "sneaker", "cap")
        product_of(photo, WHOLE, "a")
        boxes = [one.box for one in search.find_objects(photo, FIELD)]
        assert len(boxes) == detection.MOST_OBJECTS
        for how, expected in (({}, boxes[:4]), ({"most": 1}, boxes[:1]), ({"most": 7}, boxes[:7])):
            found = search.search_objects(photo, FIELD, **how)
            assert [one.object.box for one in found] == [*expected, WHOLE]

    def test_one_decode_three_queries_for_each_and_one_for_the_spaces(
        self, db, settings, monkeypatch, django_assert_max_num_queries
    ):
        decodes = []
        whole = detection.decode_whole
        monkeypatch.setattr(detection, "decode_whole", lambda *args: decodes.append(1) or whole(*args))
        use_detector(settings, f"{__name__}.left_and_right")
        product_of(picture(), WHOLE, "a")
        search.search_objects(picture(), FIELD)
        with django_assert_max_num_queries(10):
            assert len(search.search_objects(picture(), FIELD)) == 3
        assert len(decodes) == 2

    def test_options_are_those_of_a_photo_search(self, db, settings):
        use_detector(settings, left_and_right)
        product_of(picture(), WHOLE, "a")
        hidden = product_of(picture(), (0, 0, 0.5, 1), "hidden")
        for one in search.search_objects(picture(), FIELD, within=Product.objects.exclude(pk=hidden.pk)):
            assert [hit.product.name for hit in one.results] == ["a"]
        answers = search.search_objects(picture(), FIELD, min_similarity=0.999)
        assert [len(one.results) for one in answers] == [1, 0, 1]
        with pytest.raises(ValueError, match="limit"):
            search.search_objects(picture(), FIELD, limit=0)

    def test_words_beside_each_object(self, db, settings):
        """As beside a photo: where nothing understands them, that is said."""
        use_detector(settings, left_and_right)
        product_of(picture(), WHOLE, "hat")
        with pytest.raises(search.TextUnavailable):
            search.search_objects(picture(), FIELD, text="hat")
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "TEXT_FIELDS": {"testshop.Product": ["name"]}}
        for one in search.search_objects(picture(), FIELD, text="hat"):
            assert [hit.reasons for hit in one.results] == [("visual", "text")]


class TestMainObject:
    """With ``MAIN_OBJECT``, a photo search is by the whole photo and by its main object."""

    @pytest.fixture(autouse=True)
    def detector(self, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "MAIN_OBJECT": True, "DETECTOR": lambda photo: self.found}

    found: list = []
    left = (0, 0, 0.5, 1)

    def vectors(self, *boxes):
        picture_of = detection.whole_photo(get_field(FIELD), picture())
        return [one.vector for [one] in query.part_queries(get_field(FIELD), picture_of, boxes)]

    def searched(self, **how):
        return search.search_by_image(picture(), FIELD, **how).vector

    def test_the_mean_of_both(self, db):
        product_of(picture(), WHOLE, "a")
        self.found = [(self.left, 0.5)]
        whole, left = self.vectors(WHOLE, self.left)
        expected = (whole + left) / np.linalg.norm(whole + left)
        assert self.searched() == pytest.approx(expected, abs=1e-6)
        assert self.searched() != pytest.approx(whole, abs=1e-3)

    def test_an_object_that_is_not_sure(self, db):
        product_of(picture(), WHOLE, "a")
        [whole] = self.vectors(WHOLE)
        for found in ([(self.left, 0.49)], []):
            self.found = found
            assert self.searched() == pytest.approx(whole, abs=1e-6)

    def test_a_crop_is_searched_as_it_is(self, db, settings):
        product_of(picture(), WHOLE, "a")
        self.found = [(self.left, 1)]
        cropped = self.searched(crop=(0, 0, 1, 0.5))
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "MAIN_OBJECT": False}
        assert (self.searched(crop=(0, 0, 1, 0.5)) == cropped).all()


class TestDetector:
    @pytest.mark.parametrize("detector", [left_and_right, f"{__name__}.left_and_right"])
    def test_a_function(self, db, settings, detector):
        use_detector(settings, detector)
        assert search.find_objects(picture(), FIELD) == [
            search.FoundObject((0, 0, 0.5, 1), 0.0),
            search.FoundObject((0.5, 0, 1, 1), 0.25, "right"),
            search.FoundObject(WHOLE, 0.0),
        ]

    def test_a_model(self, db, settings, tmp_path):
        use_detector(settings, write_model(tmp_path))
        dark = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
        dark[: SIZE[1] // 2, SIZE[0] // 2 :] = 0
        Image.fromarray(dark).save(tmp_path / "photo.png")
        found, whole = search.find_objects((tmp_path / "photo.png").read_bytes(), FIELD)
        assert (found.box, found.name, whole.box) == ((0.5, 0, 1, 0.5), "top right", WHOLE)
        assert found.score == pytest.approx(1, abs=0.05)

    def test_what_returns_no_boxes(self, db, settings):
        use_detector(settings, half_pixels)
        with pytest.raises(ImproperlyConfigured, match=r"returned \(0, 0, 64, 64\): it must return boxes"):
            search.find_objects(picture(), FIELD)

    def test_what_can_not_be_imported(self, db, settings):
        use_detector(settings, "nowhere.at_all")
        with pytest.raises(ImproperlyConfigured, match=r"VISUAL_SEARCH\['DETECTOR'\]: "):
            search.find_objects(picture(), FIELD)

    def test_a_file_that_is_no_model(self, db, settings, tmp_path):
        files = write_model(tmp_path)
        (tmp_path / "detect.tflite").write_text("nonsense")
        use_detector(settings, files)
        with pytest.raises(ExtractorUnavailable, match="is not a model"):
            search.find_objects(picture(), FIELD)

    def test_checks(self, settings, tmp_path):
        files = write_model(tmp_path)
        for sound in (None, left_and_right, f"{__name__}.left_and_right", files, {**files, "LEAST_SCORE": 0.5}):
            use_detector(settings, sound)
            assert check_values() == []
        for faulty, problem in (
            (7, "it is neither a dotted path nor a callable"),
            ("nowhere.at_all", "No module named 'nowhere'"),
            ({"MODEL": files["MODEL"]}, "its 'LABELS' is not the path of a file"),
            ({**files, "MODEL": "/nowhere.tflite"}, "there is no file '/nowhere.tflite'"),
            ({**files, "model": ""}, "it has the unknown key 'model'"),
            ({**files, "LEAST_SCORE": 2}, "its 'LEAST_SCORE' is not a number from 0 to 1"),
        ):
            use_detector(settings, faulty)
            [message] = check_values()
            assert message.id == "visual_search.E025"
            assert message.msg.endswith(f"{problem}.")
