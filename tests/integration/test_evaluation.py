"""``evaluate_search``: true figures by the shop's own vectors and search, honest words beside them, and its files."""

import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_visual_search.evaluation import ALTERED_VIEWS, OTHER_PICTURES, evaluate_field
from django_visual_search.evaluation.figures import parse_floor
from django_visual_search.evaluation.gallery import load_gallery
from django_visual_search.evaluation.report import missing_matplotlib, render_report
from django_visual_search.evaluation.served import ann_recall
from django_visual_search.evaluation.text import report_lines
from django_visual_search.extractors.backbone import BackboneExtractor
from django_visual_search.extractors.heads import LinearHead
from django_visual_search.fields.registry import get_field
from django_visual_search.learning.serialise import head_bytes, sha256_hex
from django_visual_search.models import EmbeddingHead, ServingSpace
from django_visual_search.search import search_by_image
from django_visual_search.search.nearest import nearest
from django_visual_search.search.planning import forget_facts
from django_visual_search.spaces import heads, live
from django_visual_search.spaces.heads import serving_extractor

from ..conftest import embed_all, picture_file
from ..testshop.models import DIMENSIONS, ArticleImageEmbedding, Category, Product
from ..vectors import clustered, fill
from .test_evaluation_space import PICTURES, PRODUCTS, agree, by_ir_measures, save_photos

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("small_photos")]


@pytest.fixture(autouse=True)
def nothing_remembered():
    live.forget_live_spaces()
    forget_facts()
    yield
    live.forget_live_spaces()
    heads.forget_heads()


class CellExtractor(BackboneExtractor):
    """Mean colours over a grid as features, so that a head can be learned for it."""

    name = "cells"
    input_size = 32
    width = 48
    identity = ("cells",)

    def features(self, pictures):
        cells = pictures.astype(np.float32).reshape(len(pictures), 4, 8, 4, 8, 3)
        return cells.mean(axis=(2, 4)).reshape(len(pictures), -1) - 100


def stored(field):
    """Unit vectors, article and picture of each row, as the database has them."""
    rows = list(field.model.objects.order_by("pk").values_list("pk", "embedding", "image__article_id"))
    vectors = np.array([vector for _, vector, _ in rows], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array([article for *_, article in rows])


def shop_of(counts, categories=0):
    """Embedded articles with so many pictures each, in turn of each of so many categories."""
    made = save_photos(counts)
    kinds = [Category.objects.create(name=f"kind {n}") for n in range(categories)]
    for number, article in enumerate(dict.fromkeys(image.article for image in made)):
        if kinds:
            article.category = kinds[number % len(kinds)]
            article.save()
    embed_all(PICTURES)
    return made


def evaluate(field, **options):
    """Evaluate with few pictures where many would show no more."""
    return evaluate_field(field, **{"robustness_pictures": 2, "searches": 8, **options})


def figures_of(evaluation, name):
    (task,) = [task for task in evaluation.tasks if task.name == name]
    return task


class TestFigures:
    def test_other_pictures_are_ranked_by_what_the_database_has(self):
        shop_of([3] * 6 + [2] * 4)
        field = get_field(PICTURES)
        evaluation = evaluate(field)
        vectors, owners = stored(field)
        similarities = (vectors @ vectors.T).astype(float)
        np.fill_diagonal(similarities, -np.inf)
        agree(
            figures_of(evaluation, OTHER_PICTURES).overall,
            by_ir_measures(similarities, owners[:, None] == owners, len(owners)),
        )

    def test_views_are_what_a_search_by_photo_finds(self, monkeypatch):
        for n in range(12):
            Product.objects.create(name=str(n), image=picture_file(n))
        embed_all()
        rankings = []

        def listening(photo, *args, **kwargs):
            results = search_by_image(photo, *args, **kwargs)
            rankings.append([str(hit.product.pk) for hit in results])
            return results

        monkeypatch.setattr("django_visual_search.evaluation.altered.search_by_image", listening)
        evaluation = evaluate(get_field(PRODUCTS), seed=4)
        keys = [str(pk) for pk in Product.objects.order_by("pk").values_list("pk", flat=True)]
        assert [task.name for task in evaluation.tasks] == [ALTERED_VIEWS]
        assert len(rankings) == 24
        scores = np.array([[-ranking.index(key) for key in keys] for ranking in rankings], float)
        agree(
            figures_of(evaluation, ALTERED_VIEWS).overall, by_ir_measures(scores, np.repeat(np.eye(12), 2, axis=0), 24)
        )

    def test_by_category_and_same_category(self):
        shop_of([2] * 9, categories=3)
        field = get_field(PICTURES)
        evaluation = evaluate(field, labels=["category"])
        task = figures_of(evaluation, OTHER_PICTURES)
        assert list(task.by_label["category"]) == ["kind 0", "kind 1", "kind 2"]
        parts = task.by_label["category"].values()
        assert np.mean([part.mean_average_precision for part in parts]) == pytest.approx(
            task.overall.mean_average_precision
        )
        vectors, owners = stored(field)
        kinds = np.unique(owners, return_inverse=True)[1] % 3
        similarities = np.where(owners[:, None] == owners, -np.inf, (vectors @ vectors.T).astype(float))
        agree(
            figures_of(evaluation, "same category").overall, by_ir_measures(similarities, kinds[:, None] == kinds, 18)
        )
        (table,) = evaluation.confusion
        nearest = kinds[similarities.argmax(axis=1)]
        expected = [[int(((kinds == a) & (nearest == b)).sum()) for b in range(3)] for a in range(3)]
        assert (table.names, table.counts) == (["kind 0", "kind 1", "kind 2"], expected)

    def test_two_categories_of_one_name_stay_two(self):
        shop_of([2] * 4, categories=2)
        Category.objects.update(name="shoes")
        evaluation = evaluate(get_field(PICTURES), labels=["category"])
        names = [f"shoes ({key})" for key in Category.objects.values_list("pk", flat=True)]
        assert list(figures_of(evaluation, OTHER_PICTURES).by_label["category"]) == sorted(names)

    def test_worst_queries_never_show_the_query_as_a_hit(self):
        shop_of([3] * 8)
        evaluation = evaluate(get_field(PICTURES))
        assert evaluation.worst
        for query in evaluation.worst:
            assert query.rank > 1
            assert query.image not in [hit.image for hit in query.hits]
            assert [hit.right for hit in query.hits].index(True) + 1 == query.rank if query.rank <= 5 else True
            assert not query.hits[0].right

    def test_a_sample_is_the_same_with_the_same_seed(self):
        shop_of([2] * 10 + [1] * 6)
        first, again, other = (evaluate(get_field(PICTURES), limit=8, seed=s) for s in (1, 1, 2))
        assert first.tasks == again.tasks != other.tasks
        assert (first.robustness, first.worst) == (again.robustness, again.worst)
        assert (first.queries, first.pictures) == (8, 26)

    def test_unaltered_pictures_find_themselves_and_stronger_alterations_find_less(self):
        shop_of([1] * 12)
        curves = evaluate(get_field(PICTURES)).robustness
        assert [curve.alteration for curve in curves] == ["rotation", "blur", "crop", "light", "JPEG"]
        for curve in curves:
            assert curve.recall[1][0] == 1
            assert curve.similarity[0] > 0.99
            assert curve.similarity[-1] < curve.similarity[0]

    @pytest.mark.django_db(transaction=True)
    def test_the_index_is_compared_with_the_exact_answer(self, settings, monkeypatch):
        vectors, _ = clustered(4000, DIMENSIONS, clusters=4000)
        names = [f"{i}.jpg" for i in range(len(vectors))]
        columns = {"name": names, "image": names, "price": [0] * len(names), "is_published": [True] * len(names)}
        field = get_field(PRODUCTS)
        fill(field, vectors, columns=columns)
        gallery = load_gallery(field, serving_extractor(field).spec.key)
        np.testing.assert_allclose(gallery.vectors, vectors, atol=1e-3)
        rows = np.arange(0, 4000, 200)
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXACT_ROWS": 5000}
        exact = ann_recall(field, gallery, rows)
        assert (exact.recall, exact.exact, exact.queries) == (1, 20, 20)
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXACT_ROWS": 0}
        forget_facts()
        graph = ann_recall(field, gallery, rows)
        assert graph.exact == 0
        assert graph.recall > 0.9

        def missing_half(*args, **kwargs):
            found = nearest(*args, **kwargs)
            return replace(found, candidates=found.candidates[::2])

        monkeypatch.setattr("django_visual_search.evaluation.served.nearest", missing_half)
        assert ann_recall(field, gallery, rows).recall == pytest.approx(0.5, abs=0.05)

    @pytest.mark.parametrize("label", ["testshop.Poster.embedding", "testshop.Spare.embedding"])
    def test_other_metrics(self, label):
        field = get_field(label)
        for n in range(12):
            values = {"sku": str(n)} if label.startswith("testshop.Spare") else {}
            field.model.objects.create(image=picture_file(n, f"{n}.jpg"), **values)
        embed_all(label)
        evaluation = evaluate(field)
        assert evaluation.ann.recall == 1
        assert figures_of(evaluation, ALTERED_VIEWS).overall.queries == 24

    def test_stages_of_a_search(self):
        shop_of([1] * 10)
        stages = evaluate(get_field(PICTURES)).latency
        assert list(stages) == ["decode", "inference", "SQL", "fetch", "all"]
        assert all(0 < stage.p50 <= stage.p95 and stage.searches == 5 for stage in stages.values())

    def test_pictures_without_a_vector_or_a_file_are_reported(self):
        made = shop_of([2, 2, 1, 1])
        ArticleImageEmbedding.objects.filter(pk=made[0].pk).delete()
        made[4].original.storage.delete(made[4].original.name)
        evaluation = evaluate(get_field(PICTURES))
        assert (evaluation.pictures, evaluation.without) == (5, 1)
        assert list(evaluation.unreadable) == [made[4].original.name]
        assert "1 pictures have no vector" in "\n".join(report_lines(evaluation))

    def test_a_gallery_beyond_what_fits_is_a_sample(self):
        shop_of([2] * 5)
        gallery = load_gallery(get_field(PICTURES), serving_extractor(get_field(PICTURES)).spec.key, limit=6)
        assert (len(gallery), gallery.drawn_from, gallery.complete) == (6, 10, False)
        evaluation = evaluate(get_field(PICTURES), gallery_limit=6)
        assert "rankings are among a sample of 6" in " ".join(report_lines(evaluation))

    def test_a_shop_that_takes_no_jpeg_and_shows_few_hits(self, settings):
        entry = {"BACKEND": "tests.testshop.extractors.ColourExtractor", "OPTIONS": {"images": {"formats": ("PNG",)}}}
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXTRACTORS": {"default": entry}, "MAX_LIMIT": 5}
        shop_of([1] * 6)  # PNG files
        evaluation = evaluate(get_field(PICTURES))
        assert figures_of(evaluation, ALTERED_VIEWS).overall.queries == 12
        assert evaluation.unreadable == {}
        assert len(evaluation.robustness) == 5

    def test_nothing_embedded(self):
        save_photos([2])
        with pytest.raises(ValueError, match="reindex_embeddings"):
            evaluate(get_field(PICTURES))


@pytest.fixture
def head(settings):
    """A head serves that was learned from the shop's own pictures."""
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "EXTRACTORS": {"default": {"BACKEND": f"{__name__}.CellExtractor"}},
    }
    field = get_field(PICTURES)
    learned = LinearHead(np.random.default_rng(0).normal(size=(48, 48)).astype(np.float32))
    extractor = CellExtractor(dimensions=48)
    data = head_bytes(learned)
    row = EmbeddingHead.objects.create(
        name="spring",
        label=PICTURES,
        state="serving",
        extractor="default",
        features_key=extractor.features_key,
        key=extractor.with_head(learned).spec.key,
        dimensions=48,
        data=data,
        sha256=sha256_hex(data),
        metrics=[{"task": "unseen pictures", "before": {"R@1": 0.5, "queries": 7}, "after": {"R@1": 0.625}}],
        calibration={
            "method": "platt",
            "overall": {"similarities": [0.0, 1.0], "probabilities": [0.0, 1.0], "pairs": 50},
            "categories": {},
        },
    )
    now = timezone.now()
    moved = {"changed_at": now, "effective_at": now, "finished_at": now}
    ServingSpace.objects.create(label=PICTURES, extractor="default", head=row, previous_extractor="default", **moved)
    live.forget_live_spaces()
    heads.forget_heads()
    assert serving_extractor(field).spec.key == row.key
    return row


class TestHead:
    def test_its_held_out_figures_are_shown_too(self, head):
        shop_of([2] * 14)
        evaluation = evaluate(get_field(PICTURES))
        assert evaluation.space == head.key
        said = " ".join("\n".join(report_lines(evaluation)).split())
        assert "The head spring serves" in said
        assert "not held out" in said
        assert "On pictures held out when the head spring was learned" in said
        assert re.search(r"unseen pictures after +0.625", said)

    def test_a_floor_may_ask_for_what_was_held_out(self, head):
        shop_of([2] * 4)
        evaluation = evaluate(get_field(PICTURES))
        assert parse_floor("unseen pictures:R@1=0.6").problem(evaluation) is None
        assert "but it is 0.6250" in parse_floor("unseen pictures:R@1=0.7").problem(evaluation)
        assert "nothing measured it" in parse_floor("unseen products:R@1=0.1").problem(evaluation)

    def test_confidence_is_compared_with_truth(self, head):
        shop_of([2] * 14)
        found = evaluate(get_field(PICTURES)).reliability
        assert sum(found.hits) == 28
        assert 0 <= found.error <= 1
        vectors, owners = stored(get_field(PICTURES))
        similarities = vectors @ vectors.T
        np.fill_diagonal(similarities, -1)
        right = owners[similarities.argmax(axis=1)] == owners
        assert found.brier == pytest.approx(np.mean((similarities.max(axis=1) - right) ** 2), abs=1e-4)

    def test_both_are_in_the_report(self, head):
        shop_of([2] * 14)
        page = render_report([evaluate(get_field(PICTURES))], timezone.now())
        assert "when spring was learned" in page
        assert "Calibration error" in page


class Page(HTMLParser):
    """What a page loads, and its ids."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.images, self.names = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names.append(tag)
        for name in ("src", "href", "xlink:href"):
            if name in values and not values[name].startswith(("data:", "#")):
                self.loads.append(values[name])
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "img":
            self.images.append(values)


class TestCommand:
    def evaluate(self, *arguments):
        out = io.StringIO()
        few = {"robustness_pictures": 2, "searches": 8}
        call_command("evaluate_search", *arguments, stdout=out, stderr=io.StringIO(), **few)
        return out.getvalue()

    def test_tables_json_and_report(self, tmp_path):
        shop_of([2] * 8 + [1] * 6, categories=2)
        file, folder = tmp_path / "figures.json", tmp_path / "reports"
        said = self.evaluate(PICTURES, "--json", str(file), "--report", str(folder), "--fail-under", "R@1=0")
        assert "Other pictures (16 queries)" in said
        assert "which can't find itself" in said
        assert "Altered views (12 queries)" in said
        assert "category kind 1" in said
        assert "Floors met: R@1 at least 0." in said
        (figures,) = json.loads(file.read_text())["fields"]
        by_name = {task["name"]: task for task in figures["tasks"]}
        assert list(by_name) == ["other pictures", "altered views", "same category"]
        recall = by_name["other pictures"]["overall"]["R@1"]
        assert f"{recall:.3f}" in said
        assert set(figures["latency"]) == {"decode", "inference", "SQL", "fetch", "all"}
        page = Page((folder / "visual-search-report.html").read_text())
        assert page.loads == []
        assert len(page.ids) == len(set(page.ids))
        assert page.images
        assert all(image["alt"] and image["src"].startswith("data:image/jpeg") for image in page.images)
        assert "script" not in page.names
        assert page.names.count("svg") >= 6
        text = (folder / "visual-search-report.html").read_text()
        assert f"{recall:.3f}" in text
        assert "prefers-color-scheme: dark" in text

    def test_names_are_escaped(self, tmp_path):
        shop_of([2] * 6, categories=2)
        Category.objects.filter(name="kind 0").update(name="<b>$\\frac{a}{b}$ & co")
        self.evaluate(PICTURES, "--report", str(tmp_path / "report.html"))
        text = (tmp_path / "report.html").read_text()
        assert "<b>" not in text
        assert "&lt;b&gt;$\\frac{a}{b}$ &amp; co" in text

    def test_a_figure_that_is_too_low(self):
        shop_of([2] * 8)
        with pytest.raises(CommandError, match=r"mAP at least 0.99 was required, but it is 0\.\d+") as error:
            self.evaluate(PICTURES, "--fail-under", "R@10=0.01", "--fail-under", "mAP=0.99")
        assert error.value.returncode == 1
        assert "R@10" not in str(error.value)

    def test_a_figure_that_could_not_be_measured(self):
        shop_of([2] * 8)
        with pytest.raises(CommandError, match=r"nothing measured it \(tasks: other pictures\)"):
            self.evaluate(PICTURES, "--fail-under", "altered views:R@1=0.1")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--fail-under", "precision=0.6"], r"takes MEASURE=VALUE .*precision=0.6.*R@1, R@5, R@10, mAP, MRR"),
            (["--fail-under", "R@1=60"], "value from 0 to 1"),
            (["--fail-under", "R@1"], "takes MEASURE=VALUE"),
            (["--fail-under", "R@1=nan"], "value from 0 to 1"),
            (["--fail-under", "other:R@1=0.5"], "no task 'other'. Tasks: other pictures, altered views, same category"),
            (["--limit", "0"], "--limit must be at least 1"),
            (["--labels", "colour"], "has no 'colour'"),
            (["--json", "/nowhere/at/all.json"], "There is no folder /nowhere/at"),
            (["--within", "title"], "--within takes FIELD=VALUE"),
            (["--within", "colour=red"], "Cannot resolve keyword 'colour'"),
        ],
    )
    def test_bad_arguments_are_refused_before_the_work(self, arguments, said, monkeypatch):
        def working(*args, **kwargs):
            raise AssertionError("it began to work")

        monkeypatch.setattr("django_visual_search.evaluation.served.draw_sample", working)
        shop_of([2])
        with pytest.raises(CommandError, match=said):
            self.evaluate(PICTURES, *arguments)

    def test_an_unknown_field(self):
        with pytest.raises(CommandError, match=r"There is no embedding field 'shop\.Nothing'"):
            self.evaluate("shop.Nothing")

    def test_all_fields_but_those_without_pictures(self):
        shop_of([2, 2])
        Product.objects.create(name="a", image=picture_file(1))
        embed_all()
        said = self.evaluate()
        assert f"{PICTURES}: 4 pictures" in said
        assert f"{PRODUCTS}: 1 pictures" in said

    def test_within(self):
        shop_of([2] * 6, categories=2)
        assert f"{PICTURES}: 6 pictures" in self.evaluate(PICTURES, "--within", "category__name=kind 1")

    def test_without_matplotlib(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setattr("django_visual_search.evaluation.report.find_spec", lambda name: None)
        assert "pip install 'django-visual-search[training]'" in missing_matplotlib()
        shop_of([2] * 3)
        with pytest.raises(CommandError, match="Reports are drawn by matplotlib"):
            self.evaluate(PICTURES, "--report", str(tmp_path))
        assert "Other pictures" in self.evaluate(PICTURES)


def test_floors():
    floor = parse_floor("altered views: ndcg@10 = 0.5")
    assert (floor.task, floor.measure, floor.least) == ("altered views", "nDCG@10", 0.5)
    assert str(parse_floor("ANN@10=0.95")) == "ANN@10 at least 0.95"
