"""The findability report lists products with their reason, from the database and from a check."""

import io
import json
import uuid

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from django_visual_search import findability, indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.findability import Reason, count_unfindable, unfindable_products
from django_visual_search.models import FindabilityFinding, IndexingAttempt, IndexingRun, ServingSpace
from django_visual_search.tasks import check_findability

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import Article, ArticleImage, Product
from .test_admin_status import PICTURES, PRODUCTS, attempt

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("small_photos")]


def product(seed, **values):
    return Product.objects.create(name=f"Product {seed}", image=picture_file(seed), **values)


def saved_again(data):
    """Return the same picture in another format."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as whole:
        whole.save(out, "PNG")
    return out.getvalue()


def vivid(number):
    """Return a picture of two strong colours, like no other."""
    colours = ["red", "blue", "yellow", "lime", "magenta", "cyan", "black", "white"]
    whole = Image.new("RGB", (64, 64), colours[number])
    whole.paste(colours[number - 1], (0, 0, 32, 64))
    out = io.BytesIO()
    whole.save(out, "PNG")
    return ContentFile(out.getvalue(), name=f"vivid-{number}.png")


def grey(level, seed):
    """Return look-alikes: pictures of one grey with hardly any differences."""
    noise = np.random.default_rng(seed).normal(level, 1.5, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return ContentFile(out.getvalue(), name=f"grey-{seed}.png")


def found(reason, model=Product):
    return {row.product for row in unfindable_products(model, reason)}


class TestLive:
    def test_each_product_has_one_reason(self):
        made = [product(n) for n in range(7)]
        embed_all()
        _, stale, missing, refused, quarantined, small, cleared = made
        Product.objects.filter(pk=stale.pk).update(embedding_key="other:x")
        gone = [missing.pk, refused.pk, quarantined.pk, small.pk]
        Product.objects.filter(pk__in=gone).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, refused, refused.image, "refused")
        attempt(PRODUCTS, quarantined, quarantined.image, "quarantined")
        attempt(PRODUCTS, small, small.image, "refused")
        IndexingAttempt.objects.filter(object_id=str(small.pk)).update(code="side", message="Too small.")
        Product.objects.filter(pk=cleared.pk).update(image="", embedding=None, embedding_key=None)
        expected = {
            Reason.NO_PICTURE: cleared,
            Reason.SIZE: small,
            Reason.REFUSED: refused,
            Reason.QUARANTINED: quarantined,
            Reason.MISSING: missing,
            Reason.STALE: stale,
        }
        assert {reason: found(reason) for reason in expected} == {r: {str(p.pk)} for r, p in expected.items()}
        counts = count_unfindable(Product)
        assert counts == {reason: int(reason in expected) for reason in Reason}
        assert unfindable_products(Product, Reason.SIZE)[0].text == "Too small."
        assert unfindable_products(Product, Reason.NO_PICTURE)[0].text == "There is no picture."

    def test_a_real_picture_that_is_too_small(self):
        out = io.BytesIO()
        Image.new("RGB", (3, 3), "red").save(out, "PNG")
        tiny = Product.objects.create(name="tiny", image=ContentFile(out.getvalue(), name="tiny.png"))
        embed_all()
        assert found(Reason.SIZE) == {str(tiny.pk)}
        assert "pixels" in unfindable_products(Product, Reason.SIZE)[0].text

    def test_a_product_is_found_as_long_as_one_of_its_pictures_is(self):
        half, none = Article.objects.create(title="half"), Article.objects.create(title="none")
        pictures = [
            ArticleImage.objects.create(article=article, original=ContentFile(data, name=name))
            for article, data, name in (
                (half, picture(1), "1.jpg"),
                (half, b"no picture", "2.jpg"),
                (none, b"no picture", "3.jpg"),
                (none, b"no picture either", "4.jpg"),
            )
        ]
        empty = Article.objects.create(title="empty")
        embed_all(PICTURES)
        assert len(pictures) == 4
        assert found(Reason.REFUSED, Article) == {str(none.pk)}
        assert found(Reason.NO_PICTURE, Article) == {str(empty.pk)}
        assert count_unfindable(Article) == {reason: len(found(reason, Article)) for reason in Reason}
        assert sum(count_unfindable(Article).values()) == 2

    def test_pages(self):
        made = [Product.objects.create(name=str(n)) for n in range(7)]
        keys = [
            row.product for start in range(0, 7, 3) for row in unfindable_products(Product, Reason.NO_PICTURE, start, 3)
        ]
        assert keys == [str(one.pk) for one in made]


class TestCheck:
    def test_the_same_picture_twice(self):
        made = [product(n) for n in range(12)]
        copy = Product.objects.create(name="copy", image=picture_file(3, "copy.jpg"))
        again = Product.objects.create(name="again", image=ContentFile(saved_again(picture(5)), name="again.png"))
        embed_all()
        checked = findability.check(get_field(PRODUCTS), seed=0)
        assert (checked.products, checked.of, checked.unreadable) == (14, 14, 0)
        assert 0.99 < checked.threshold <= 1
        pairs = {(row.product, row.other) for row in unfindable_products(Product, Reason.DUPLICATE)}
        three, five = made[3], made[5]
        assert pairs == {
            (str(a.pk), str(b.pk)) for a, b in ((three, copy), (copy, three), (five, again), (again, five))
        }
        assert all(row.similarity >= checked.threshold for row in unfindable_products(Product, Reason.DUPLICATE))
        assert found(Reason.DROWNED) == set()

    def test_drowned_by_look_alikes(self):
        clear = [Product.objects.create(name="vivid", image=vivid(n)) for n in range(6)]
        alike = [Product.objects.create(name="grey", image=grey(120, seed)) for seed in range(24)]
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        drowned = found(Reason.DROWNED)
        assert len(drowned) > 5
        assert drowned <= {str(one.pk) for one in alike}
        assert not drowned & {str(one.pk) for one in clear}
        drowned = unfindable_products(Product, Reason.DROWNED)
        assert all(row.text.startswith(("2 of 3", "3 of 3")) for row in drowned)
        assert all(row.other not in ("", row.product) for row in drowned)

    def test_another_picture_of_the_product_finds_it_too(self):
        article, other = Article.objects.create(title="a"), Article.objects.create(title="b")
        for n in range(3):
            ArticleImage.objects.create(article=article, original=picture_file(1, f"a{n}.jpg"))
        ArticleImage.objects.create(article=other, original=picture_file(2, "b.jpg"))
        embed_all(PICTURES)
        findability.check(get_field(PICTURES), seed=0)
        assert count_unfindable(Article)[Reason.DUPLICATE] == count_unfindable(Article)[Reason.DROWNED] == 0

    def test_a_check_replaces_findings_of_its_products(self):
        one, _ = product(1), Product.objects.create(name="copy", image=picture_file(1, "copy.jpg"))
        for n in range(2, 9):
            product(n)
        embed_all()
        field = get_field(PRODUCTS)
        findability.check(field, seed=0)
        assert len(found(Reason.DUPLICATE)) == 2
        one.image = picture_file(77)
        one.save()
        indexing.sweep(field)
        findability.check(field, seed=0)
        assert found(Reason.DUPLICATE) == set()

    def test_a_bounded_check_keeps_other_findings(self):
        for n in range(8):
            product(n)
        copies = [Product.objects.create(name="copy", image=picture_file(1, f"copy-{n}.jpg")) for n in range(2)]
        embed_all()
        field = get_field(PRODUCTS)
        findability.check(field, seed=0)
        before = FindabilityFinding.objects.count()
        assert before == 3
        checked = findability.check(field, limit=1, seed=0)
        assert (checked.products, checked.of) == (1, 10)
        assert FindabilityFinding.objects.count() == before
        copies[0].delete()
        findability.check(field, limit=1, seed=0)
        assert str(copies[0].pk) not in found(Reason.DUPLICATE)

    def test_findings_of_another_vector_space_do_not_count(self):
        product(1)
        Product.objects.create(name="copy", image=picture_file(1, "copy.jpg"))
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        FindabilityFinding.objects.update(extractor_key="other-48-x")
        assert count_unfindable(Product)[Reason.DUPLICATE] == 0
        assert unfindable_products(Product, Reason.DUPLICATE) == []

    def test_a_picture_that_cannot_be_read(self):
        made = [product(n) for n in range(3)]
        embed_all()
        made[1].image.storage.delete(made[1].image.name)
        checked = findability.check(get_field(PRODUCTS), seed=0)
        assert (checked.products, checked.unreadable, checked.drowned) == (3, 1, 0)

    def test_nothing_embedded(self):
        product(1)
        assert findability.check(get_field(PRODUCTS)).products == 0

    @pytest.mark.parametrize("label", ["testshop.Poster.embedding", "testshop.Spare.embedding"])
    def test_other_metrics(self, label):
        field = get_field(label)
        for n in range(6):
            values = {"sku": str(n)} if label.startswith("testshop.Spare") else {}
            field.model.objects.create(image=picture_file(n % 5, f"{n}.jpg"), **values)
        embed_all(label)
        findability.check(field, seed=0)
        first = {str(field.model.objects.get(image__endswith=name).pk) for name in ("/0.jpg", "/5.jpg")}
        assert found(Reason.DUPLICATE, field.model) == first

    def test_the_run_is_recorded(self):
        product(1)
        embed_all()
        findability.check(get_field(PRODUCTS))
        run = IndexingRun.objects.get(label=PRODUCTS, kind=IndexingRun.Kind.FINDABILITY)
        assert (run.total, run.done) == (1, 1)
        assert run.finished_at
        assert not findability.running(PRODUCTS)

    def test_the_task_starts_no_second_check(self):
        product(1)
        embed_all()
        now = timezone.now()
        values = {"started_at": now, "updated_at": now}
        IndexingRun.objects.create(label=PRODUCTS, kind=IndexingRun.Kind.FINDABILITY, total=9, **values)
        assert findability.running(PRODUCTS)
        check_findability(PRODUCTS)
        assert IndexingRun.objects.get(kind="findability").total == 9
        IndexingRun.objects.update(updated_at=now - timezone.timedelta(hours=1))
        check_findability(PRODUCTS)
        assert IndexingRun.objects.get(kind="findability").total == 1


class TestCommand:
    def report(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        call_command("findability_report", *arguments, stdout=out, stderr=err)
        return out.getvalue()

    def test_text(self):
        product(1)
        copy = Product.objects.create(name="copy", image=picture_file(1, "copy.jpg"))
        Product.objects.create(name="bare")
        embed_all()
        output = self.report(PRODUCTS, "--seed", "0")
        assert "testshop.Product: 3 products" in output
        assert "checked 2 of 2 products with a vector" in output
        assert "1 no picture: Upload a picture." in output
        assert "2 duplicate picture" in output
        assert f"{copy.pk} " in output

    def test_json(self, tmp_path):
        bare = Product.objects.create(name="bare")
        data = json.loads(self.report(PRODUCTS, "--json"))
        (model,) = data["models"]
        assert (model["model"], model["counts"]["no-picture"]) == ("testshop.Product", 1)
        assert model["products"][0]["product"] == str(bare.pk)
        assert model["products"][0]["reason"] == "no-picture"
        file = tmp_path / "report.json"
        self.report("--json", str(file), "--stored")
        models = {model["model"] for model in json.loads(file.read_text())["models"]}
        assert {"testshop.Product", "testshop.Article", "testshop.Story"} <= models

    def test_stored_runs_no_check(self):
        product(1)
        Product.objects.create(name="copy", image=picture_file(1, "copy.jpg"))
        embed_all()
        output = self.report(PRODUCTS, "--stored")
        assert "2 duplicate picture" not in output
        assert f"{PRODUCTS} was never checked" in output
        findability.check(get_field(PRODUCTS), seed=0)
        output = self.report(PRODUCTS, "--stored")
        assert "2 duplicate picture" in output
        assert "not known" not in output
        now = timezone.now()
        moved = {"changed_at": now, "effective_at": now, "finished_at": now}
        ServingSpace.objects.create(label=PRODUCTS, extractor="default", previous_extractor="default", **moved)
        assert f"{PRODUCTS} was switched to other vectors since its last check" in self.report(PRODUCTS, "--stored")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["shop.Nothing.embedding"], "There is no embedding field"),
            (["--limit", "-1"], "must be 0 or more"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(CommandError, match=message):
            self.report(*arguments)


def test_one_finding_a_picture_and_reason():
    values = {"label": PRODUCTS, "product_id": "1", "image": "x", "reason": "drowned", "extractor_key": "k"}
    finding = FindabilityFinding.objects.create(object_id=uuid.uuid4().hex, checked_at=timezone.now(), **values)
    assert str(finding) == f"{PRODUCTS} 1: drowned by look-alikes"
