"""A space that serves nobody yet is measured on the shop's own pictures, without a vector being written."""

import io
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from django.core.files.base import ContentFile
from ir_measures import AP, RR, Success, nDCG
from PIL import Image

from django_visual_search import images
from django_visual_search.evaluation import ALTERED_VIEWS, OTHER_PICTURES, measure_space
from django_visual_search.evaluation.catalogue import draw_sample
from django_visual_search.extractors.base import l2_normalise
from django_visual_search.fields.registry import get_field
from django_visual_search.learning.augment import altered_views
from django_visual_search.models import IndexingAttempt
from django_visual_search.spaces.extractors import extractor_of

from ..conftest import picture, picture_file
from ..testshop.extractors import ColourExtractor
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Product

PICTURES = "testshop.ArticleImageEmbedding.embedding"
PRODUCTS = "testshop.Product.embedding"
ORACLE = {"R@1": Success @ 1, "R@5": Success @ 5, "R@10": Success @ 10, "mAP": AP, "MRR": RR, "nDCG@10": nDCG @ 10}


class BlindExtractor(ColourExtractor):
    """Sees that pictures differ, and nothing of what they show."""

    def __call__(self, pictures):
        rows = [np.random.default_rng(int(picture.sum(dtype=np.int64))).normal(size=48) for picture in pictures]
        return l2_normalise(np.array(rows))


def noisy(seed, noise):
    """Another photo of what ``picture(seed)`` shows."""
    patches = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(float)
    patches += np.random.default_rng([seed, noise]).normal(0, 130, patches.shape)
    return Image.fromarray(patches.clip(0, 255).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)


def save_photos(counts):
    """Articles with so many pictures each, on disk and in the database."""
    made = []
    for number, count in enumerate(counts):
        article = Article.objects.create(title=f"Article {number}")
        for i in range(count):
            out = io.BytesIO()
            noisy(number, i).save(out, "PNG")
            file = ContentFile(out.getvalue(), name=f"{number}-{i}.png")
            made.append(ArticleImage.objects.create(article=article, original=file))
    return made


def by_ir_measures(similarities, right, queries):
    """``similarities``: ``(q, n)``; ``right``: of the same shape; what may not be found is -inf."""
    qrels, run = [], []
    for q in range(len(similarities)):
        for d in np.flatnonzero(np.isfinite(similarities[q])):
            qrels.append(ir_measures.Qrel(str(q), str(d), int(right[q, d])))
            run.append(ir_measures.ScoredDoc(str(q), str(d), float(similarities[q, d])))
    found = ir_measures.calc_aggregate(list(ORACLE.values()), qrels, run)
    return {name: found[measure] for name, measure in ORACLE.items()} | {"queries": queries}


def vectors_of(field, files):
    """Unit vectors as the database keeps them."""
    extractor = extractor_of(field)
    pixels = [np.asarray(images.load(file, options=extractor.spec.images, size=32)) for file in files]
    vectors = extractor(np.stack(pixels)).astype(np.float16).astype(np.float32)
    return np.stack(pixels), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def agree(metrics, expected):
    measured = metrics.as_dict()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.django_db
class TestMeasuring:
    def test_other_pictures_are_right_and_the_query_is_never_a_hit(self):
        made = save_photos([3] * 8 + [2] * 4)
        field = get_field(PICTURES)
        measured = measure_space(field, extractor_of(field))
        assert list(measured) == [OTHER_PICTURES]
        _, vectors = vectors_of(field, [Path(image.original.path).read_bytes() for image in made])
        similarities = (vectors @ vectors.T).astype(float)
        np.fill_diagonal(similarities, -np.inf)
        owners = np.array([image.article_id for image in made])
        agree(measured[OTHER_PICTURES], by_ir_measures(similarities, owners[:, None] == owners, len(made)))
        assert measured[OTHER_PICTURES].left_out == 0
        assert 0.1 < measured[OTHER_PICTURES].recall[1] < 0.95

    def test_altered_views_of_single_pictures(self):
        made = [Product.objects.create(name=str(n), image=picture_file(n)) for n in range(30)]
        field = get_field(PRODUCTS)
        measured = measure_space(field, extractor_of(field), seed=3)
        assert list(measured) == [ALTERED_VIEWS]
        pixels, vectors = vectors_of(field, [picture(n) for n in range(30)])
        altered = [np.asarray(v) for i in range(30) for v in altered_views(Image.fromarray(pixels[i]), 2, [3, i])]
        queries = extractor_of(field)(np.stack(altered)).astype(np.float16).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        right = np.repeat(np.eye(30), 2, axis=0)
        agree(measured[ALTERED_VIEWS], by_ir_measures((queries @ vectors.T).astype(float), right, 2 * len(made)))

    def test_both_kinds_in_one_shop(self):
        save_photos([2, 2, 1, 1, 1])
        field = get_field(PICTURES)
        measured = measure_space(field, extractor_of(field))
        assert (measured[OTHER_PICTURES].queries, measured[ALTERED_VIEWS].queries) == (4, 6)

    def test_the_same_seed_gives_the_same_figures(self):
        save_photos([3] * 6 + [1] * 10)
        field = get_field(PICTURES)
        first, again, other = (measure_space(field, extractor_of(field), limit=12, seed=s) for s in (1, 1, 2))
        assert first == again != other

    def test_nothing_is_written(self):
        save_photos([2, 1])
        measure_space(get_field(PICTURES), extractor_of(get_field(PICTURES)))
        assert not ArticleImageEmbedding.objects.exists()
        assert not IndexingAttempt.objects.exists()

    def test_an_extractor_that_does_not_serve(self):
        save_photos([3] * 6)
        field = get_field(PICTURES)
        worse = BlindExtractor(dimensions=48)
        serving = measure_space(field, extractor_of(field))[OTHER_PICTURES]
        assert measure_space(field, worse)[OTHER_PICTURES].mean_average_precision < serving.mean_average_precision

    def test_unreadable_pictures_are_left_out(self):
        made = save_photos([2, 2, 1])
        Path(made[0].original.path).unlink()
        Path(made[4].original.path).write_bytes(b"no picture")
        measured = measure_space(get_field(PICTURES), extractor_of(get_field(PICTURES)))
        assert list(measured) == [OTHER_PICTURES]
        assert measured[OTHER_PICTURES].queries == 2

    def test_progress_is_reported(self):
        save_photos([2, 2])
        counts = []
        measure_space(get_field(PICTURES), extractor_of(get_field(PICTURES)), progress=counts.append)
        assert counts[-1] == 4

    def test_a_shop_without_pictures(self):
        Product.objects.create(name="none")
        with pytest.raises(ValueError, match=r"testshop.Product.embedding has no picture to measure with"):
            measure_space(get_field(PRODUCTS), extractor_of(get_field(PRODUCTS)))

    def test_within(self):
        for n in range(6):
            Product.objects.create(name=str(n), image=picture_file(n), price=n)
        field = get_field(PRODUCTS)
        measured = measure_space(field, extractor_of(field), within=Product.objects.filter(price__gte=4))
        assert measured[ALTERED_VIEWS].queries == 4


class TestSample:
    def test_everything_is_drawn_if_it_fits(self):
        assert draw_sample(["a", "", "b", "a"], 3).tolist() == [0, 2, 3]

    @pytest.mark.parametrize("limit", range(1, 40))
    def test_never_more_and_mostly_full(self, limit):
        products = ["a"] * 10 + ["b"] * 3 + [f"c{i}" for i in range(20)] + [""] * 9 + ["d"] * 7
        rows = draw_sample(products, limit, seed=limit)
        assert len(set(rows.tolist())) == len(rows) <= limit
        assert len(rows) > limit - 4  # what is over can't go round the three products that have more
        assert all(products[row] for row in rows)

    def test_no_product_takes_all_the_places(self):
        rows = draw_sample(["a"] * 1000 + ["b"] * 1000 + ["c"] * 5, 60)
        first, second = (rows < 1000).sum(), (rows < 2000).sum()
        assert sorted([first, second - first]) == [27, 28]
        assert len(rows) - second == 5

    def test_a_limit_below_one(self):
        with pytest.raises(ValueError, match="at least 1 picture, not 0"):
            draw_sample(["a"], 0)
