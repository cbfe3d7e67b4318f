import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.base import ContentFile
from django.db import connection, models
from django.utils import timezone

from django_visual_search import indexing
from django_visual_search.fields.keys import split_key
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import claims
from django_visual_search.indexing.claims import Lease, Picture
from django_visual_search.models import IndexingAttempt
from django_visual_search.spaces.heads import serving_embedding_key, serving_extractor_key

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import (
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    FeaturedProduct,
    Poster,
    Product,
    Shoe,
    Spare,
)

LABELS = [
    "testshop.Product.embedding",
    "testshop.Shoe.embedding",
    "testshop.Poster.embedding",
    "testshop.Spare.embedding",
    "testshop.ArticleImageEmbedding.embedding",
]
pytestmark = pytest.mark.django_db


def make(label, seed=0):
    """A row with a picture for that field, and the model and key of its vector."""
    if label.startswith("testshop.ArticleImage"):
        image = ArticleImage.objects.create(article=Article.objects.create(title="a"), original=picture_file(seed))
        return image, ArticleImageEmbedding.objects.filter(pk=image.pk)
    model = {"Product": Product, "Shoe": Shoe, "Poster": Poster, "Spare": Spare}[label.split(".")[1]]
    fields = {"sku": f"a/b c'{seed}%"} if model is Spare else {}
    row = model.objects.create(image=picture_file(seed), **fields)
    return row, model.objects.filter(pk=row.pk)


def image_of(row):
    return row.original if isinstance(row, ArticleImage) else row.image


@pytest.mark.parametrize("label", LABELS)
class TestEveryShape:
    def test_a_row_is_stale_until_embedded(self, label):
        field = get_field(label)
        row, owner = make(label)
        assert list(indexing.stale(field).values_list("pk", flat=True)) == [row.pk]
        assert embed_all(label).done == 1
        assert not indexing.stale(field).exists()
        vector, key = owner.values_list("embedding", "embedding_key").get()
        assert len(vector) == 48
        assert key == serving_embedding_key(field, image_of(row).name)
        assert not IndexingAttempt.objects.exists()

    def test_a_replaced_picture_is_stale(self, label):
        row, owner = make(label, 1)
        embed_all(label)
        before = owner.values_list("embedding", flat=True).get()
        name = "original" if isinstance(row, ArticleImage) else "image"
        # update() sends no signal
        new = image_of(row).storage.save("x/new.jpg", picture_file(2))
        type(row)._base_manager.filter(pk=row.pk).update(**{name: new})
        assert indexing.stale(get_field(label)).count() == 1
        assert embed_all(label).done == 1
        assert owner.values_list("embedding", flat=True).get() != before

    def test_a_cleared_picture_loses_its_vector(self, label):
        row, owner = make(label, 1)
        embed_all(label)
        setattr(row, "original" if isinstance(row, ArticleImage) else "image", "")
        row.save()
        assert embed_all(label).cleared == 1
        assert owner.values_list("embedding", "embedding_key").get() == (None, None)
        assert not indexing.stale(get_field(label)).exists()

    def test_the_same_name_overwritten_is_stale(self, label):
        row, owner = make(label, 1)
        embed_all(label)
        before = owner.values_list("embedding", flat=True).get()
        image = image_of(row)
        name = image.name
        image.storage.delete(name)
        image.save(name.rpartition("/")[2], ContentFile(picture(2)))
        assert image.name == name
        key = owner.values_list("embedding_key", flat=True).get()
        assert split_key(key)[0] == serving_extractor_key(get_field(label)), "still searchable"
        assert embed_all(label).done == 1
        assert owner.values_list("embedding", flat=True).get() != before

    def test_the_shops_instances_and_classes_carry_nothing_of_ours(self, label):
        row, _ = make(label, 1)
        embed_all(label)
        row = type(row)._base_manager.get(pk=row.pk)
        columns = {field.attname for field in row._meta.concrete_fields}
        for save in (False, True):
            image_of(row).save("new.png", ContentFile(picture(2)), save=save)
            assert row.__dict__.keys() == columns | {"_state"}
            assert not [key for key in vars(row._state) if "visual" in key]
        assert type(row).from_db.__func__ is models.Model.from_db.__func__

    def test_saving_the_row_again_never_writes_an_old_vector_back(self, label):
        row, owner = make(label, 1)
        embed_all(label)
        row.save()
        assert owner.exclude(embedding=None).count() == 1
        assert not indexing.stale(get_field(label)).exists()

    def test_force_keeps_vectors_searchable(self, label):
        _, owner = make(label, 1)
        embed_all(label)
        field = get_field(label)
        indexing.mark_stale(field)
        assert indexing.stale(field).count() == 1
        assert owner.exclude(embedding=None).count() == 1
        assert embed_all(label).done == 1

    def test_a_deleted_row_takes_its_attempts_along(self, label):
        make(label, 2)  # the storage answers for others
        embed_all(label)
        row, _ = make(label, 1)
        image_of(row).storage.delete(image_of(row).name)
        assert embed_all(label).refused == 1
        assert IndexingAttempt.objects.get().code == "missing_file"
        row.delete()
        embed_all(label)
        assert not IndexingAttempt.objects.exists()


def test_a_proxy_shares_its_models_field():
    product = FeaturedProduct.objects.create(image=picture_file(3))
    assert get_field("testshop.FeaturedProduct").label == "testshop.Product.embedding"
    embed_all()
    assert Product.objects.get(pk=product.pk).embedding


def test_a_refused_picture_is_reported_and_the_rest_goes_on():
    bad = Product.objects.create(image=ContentFile(b"not a picture", name="bad.jpg"))
    good = [Product.objects.create(image=picture_file(seed)) for seed in range(5)]
    report = embed_all()
    assert (report.done, report.refused) == (5, 1)
    attempt = IndexingAttempt.objects.get()
    assert (attempt.object_id, attempt.state, attempt.code) == (str(bad.pk), "refused", "format")
    assert Product.objects.exclude(embedding=None).count() == len(good)
    assert embed_all().refused == 0, "a refused picture is not tried again"
    bad.image.save("bad.jpg", picture_file(9))
    assert embed_all().done == 1
    assert not IndexingAttempt.objects.exists()


def test_a_sweep_leaves_settled_attempts_to_the_database(django_assert_max_num_queries):
    """However many pictures were refused: a sweep comes every half minute."""
    field = get_field("testshop.Product.embedding")
    products = Product.objects.bulk_create(Product(image="products/none.jpg") for _ in range(1500))
    IndexingAttempt.objects.bulk_create(
        IndexingAttempt(
            label=field.label,
            object_id=str(product.pk),
            key=serving_embedding_key(field, product.image.name),
            token=uuid.uuid4(),
            state=IndexingAttempt.State.REFUSED,
            leased_until=timezone.now(),
        )
        for product in products
    )
    with django_assert_max_num_queries(2):  # which space serves, and one for all attempts
        indexing.drop_needless_attempts(field)
    assert IndexingAttempt.objects.count() == 1500
    assert not embed_all().settled
    Product.objects.filter(pk__gt=products[0].pk).delete()
    indexing.drop_needless_attempts(field)
    assert IndexingAttempt.objects.get().object_id == str(products[0].pk)


def test_a_row_that_the_database_rejects_takes_nothing_along():
    products = [Product.objects.create(name=f"p{seed}", image=picture_file(seed)) for seed in range(5)]
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE testshop_product ADD CONSTRAINT odd CHECK (name <> 'p2') NOT VALID")
    report = embed_all()
    assert (report.done, report.failed) == (4, 1)
    attempt = IndexingAttempt.objects.get()
    assert (attempt.object_id, attempt.state) == (str(products[2].pk), "failed")
    assert "odd" in attempt.message


def test_a_claim_is_renewed_while_its_batch_waits(settings):
    """Two sweeps do no work twice, and nothing counts as lost, though the work takes longer than a lease."""
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LEASE_SECONDS": 0.6}
    field = get_field("testshop.Product")
    product = Product.objects.create(image=picture_file(1))
    key = serving_embedding_key(field, product.image.name)
    picture = Picture(str(product.pk), product.image.name, key)
    claimed = claims.claim(field, [picture], str(uuid.uuid4()))
    lease = Lease(field)
    lease.hold(claimed)
    with ThreadPoolExecutor(1) as thread:
        assert lease.wait(thread.submit(lambda: time.sleep(1.5) or "done")) == "done"
    assert claims.claim(field, [picture], str(uuid.uuid4())) == [], "still held"
    time.sleep(0.7)
    assert len(claims.claim(field, [picture], str(uuid.uuid4()))) == 1, "ends when nobody renews it"
