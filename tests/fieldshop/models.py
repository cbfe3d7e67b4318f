"""Products as real shops have them."""

from __future__ import annotations

import copy
from collections import Counter

from django.contrib.postgres.functions import RandomUUID
from django.core.files.storage import FileSystemStorage
from django.db import models
from hashid_field import HashidAutoField
from pictures.models import PictureField
from polymorphic.models import PolymorphicModel
from safedelete.models import SafeDeleteModel
from simple_history.models import HistoricalRecords

from django_visual_search.fields import EmbeddingField, EmbeddingIndex

DIMENSIONS = 48

OUR_NAMES = [
    *("space", "part", "product", "distance", "row", "vector", "key", "query", "allowed", "matching", "scanned"),
    *("best", "grouped", "named", "found", "hits", "owner", "linked", "listed", "pair", "alone", "vectors", "gain"),
    *("exposure", "as_of", "model", "object_id", "query_id", "label", "token", "made", "held", "wanted", "free"),
    *("mine", "other", "kept", "features", "image_name", "attempts", "state", "code", "message", "rows", "v", "d", "n"),
    *("product_id", "row_id", "count", "replaced", "place", "tried", "s", "r", "c", "i", "a", "m"),
]
"""Columns that have the names of columns, tables and aliases in our own SQL."""


def named_like_ours(taken=()):
    """An abstract model with a column for each of OUR_NAMES."""
    columns = {name: models.CharField(max_length=40, default="x") for name in OUR_NAMES if name not in taken}
    columns["primary"] = models.CharField(max_length=40, default="x", db_column="pk")
    meta = type("Meta", (), {"abstract": True})
    return type(f"Without{''.join(taken)}", (models.Model,), {"__module__": __name__, "Meta": meta, **columns})


class Named(named_like_ours()):
    image = models.ImageField(upload_to="named", blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        ordering = ["key"]
        indexes = [EmbeddingIndex(fields=["embedding"], name="named_hnsw")]


class NamedThing(named_like_ours()):
    """One with several pictures."""


class NamedPicture(named_like_ours(("product", "product_id"))):
    product = models.ForeignKey(NamedThing, models.CASCADE, related_name="+")
    original = models.ImageField(upload_to="named")


class NamedCompanion(named_like_ours(("row", "row_id"))):
    row = models.OneToOneField(NamedPicture, models.CASCADE, primary_key=True, related_name="+")
    embedding = EmbeddingField(source="row__original", product="row__product", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="namedcompanion_hnsw")]


class Deletable(SafeDeleteModel):
    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="deletable")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="deletable_hnsw")]


class DeletableThing(SafeDeleteModel):
    """Deleted rows are hidden; its pictures have the vectors."""

    name = models.CharField(max_length=40)


class DeletablePicture(models.Model):
    thing = models.ForeignKey(DeletableThing, models.CASCADE)
    image = models.ImageField(upload_to="deletable")
    embedding = EmbeddingField(source="image", product="thing", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="deletablepicture_hnsw")]


class Translated(models.Model):
    name = models.CharField(max_length=40)
    price = models.IntegerField(default=0)
    image = models.ImageField(upload_to="translated", blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="translated_hnsw")]


class TranslatedThing(models.Model):
    name = models.CharField(max_length=40)


class TranslatedPicture(models.Model):
    caption = models.CharField(max_length=40)
    thing = models.ForeignKey(TranslatedThing, models.CASCADE)
    image = models.ImageField(upload_to="translated")


class TranslatedCompanion(models.Model):
    picture = models.OneToOneField(TranslatedPicture, models.CASCADE, primary_key=True)
    note = models.CharField(max_length=40, default="")
    embedding = EmbeddingField(source="picture__image", product="picture__thing", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="translatedcompanion_hnsw")]


class Hashed(models.Model):
    id = HashidAutoField(primary_key=True)
    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="hashed")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="hashed_hnsw")]


class HashedThing(models.Model):
    id = HashidAutoField(primary_key=True)
    name = models.CharField(max_length=40)


class HashedPicture(models.Model):
    id = HashidAutoField(primary_key=True)
    thing = models.ForeignKey(HashedThing, models.CASCADE)
    image = models.ImageField(upload_to="hashed")


class HashedCompanion(models.Model):
    picture = models.OneToOneField(HashedPicture, models.CASCADE, primary_key=True)
    embedding = EmbeddingField(source="picture__image", product="picture__thing", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="hashedcompanion_hnsw")]


class Remembered(models.Model):
    """One whose every version is kept."""

    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="remembered")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)
    history = HistoricalRecords()

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="remembered_hnsw")]


class Pictured(models.Model):
    """One whose field makes smaller versions by itself."""

    image = PictureField(upload_to="pictured")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="pictured_hnsw")]


class Shelved(models.Model):
    """One whose table is in another schema, as Django is made to do that."""

    image = models.ImageField(upload_to="shelved")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        db_table = 'shelf"."shelved'
        indexes = [EmbeddingIndex(fields=["embedding"], name="shelved_hnsw")]


class Variant(models.Model):
    """A product that is its own relation: searches find the parents."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="variants")
    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="variants", blank=True)
    embedding = EmbeddingField(source="image", product="parent", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="variant_hnsw")]


class Article(models.Model):
    """A product whose variants have pictures of their own or their parent's; searches find those without a parent."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="variants")
    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="articles", blank=True)
    embedding = EmbeddingField(source="image", product=("parent", "self"), dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="article_hnsw")]


class Ware(models.Model):
    """As django-oscar's product: standalone, parent or child, each with any number of pictures."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(max_length=40)
    is_public = models.BooleanField(default=True)


class WarePicture(models.Model):
    ware = models.ForeignKey(Ware, models.CASCADE, related_name="pictures")
    image = models.ImageField(upload_to="wares")


class WareEmbedding(models.Model):
    picture = models.OneToOneField(WarePicture, models.CASCADE, primary_key=True)
    parents = EmbeddingField(
        source="picture__image",
        only=~models.Q(ware__parent__isnull=False, ware__is_public=False),
        product=("picture__ware__parent", "picture__ware"),
        dimensions=DIMENSIONS,
    )
    children = EmbeddingField(
        source="picture__image", product=("picture__ware", "picture__ware__parent"), dimensions=DIMENSIONS
    )

    class Meta:
        indexes = [
            EmbeddingIndex(fields=["parents"], name="ware_parents_hnsw"),
            EmbeddingIndex(fields=["children"], name="ware_children_hnsw"),
        ]


class Garment(PolymorphicModel):
    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="garments")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="garment_hnsw")]


class Shirt(Garment):
    collar = models.IntegerField(default=40)


class Trousers(Garment):
    class Meta:
        proxy = True


class CountingStorage(FileSystemStorage):
    """Overwrites a file of the same name, and counts how often each is read."""

    reads: Counter = Counter()

    def get_available_name(self, name, max_length=None):
        return name

    def _save(self, name, content):
        if self.exists(name):
            self.delete(name)
        return super()._save(name, content)

    def _open(self, name, mode="rb"):
        self.reads[name] += 1
        return super()._open(name, mode)


class Photo(models.Model):
    """A picture of a library, as Wagtail's and django-filer's: pages choose one, many the same."""

    file = models.ImageField(
        upload_to="library", storage=CountingStorage(), blank=True, width_field="width", height_field="height"
    )
    width = models.IntegerField(null=True, editable=False)
    height = models.IntegerField(null=True, editable=False)
    focal_point_x = models.PositiveIntegerField(null=True, blank=True)
    focal_point_y = models.PositiveIntegerField(null=True, blank=True)
    focal_point_width = models.PositiveIntegerField(null=True, blank=True)
    focal_point_height = models.PositiveIntegerField(null=True, blank=True)


class Album(models.Model):
    cover = models.ForeignKey(Photo, models.SET_NULL, null=True, blank=True)


class BasePage(models.Model):
    title = models.CharField(max_length=40, default="page")


class Page(BasePage):
    photo = models.ForeignKey(Photo, models.SET_NULL, null=True, blank=True)


class PageCompanion(models.Model):
    page = models.OneToOneField(Page, models.CASCADE, primary_key=True, related_name="visual")
    embedding = EmbeddingField(source="page__photo__file", crop="focal_point", product="page", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="pagecompanion_hnsw")]


class Teaser(models.Model):
    """One that has the vector itself, two relations from the picture."""

    title = models.CharField(max_length=40, default="teaser")
    album = models.ForeignKey(Album, models.CASCADE, null=True, blank=True)
    embedding = EmbeddingField(source="album__cover__file", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="teaser_hnsw")]


class Odd(models.Model):
    """Names that need quotes, and a key that the database makes."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID())
    image = models.ImageField(upload_to="odd", db_column="Main Image", max_length=300)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS, db_column="The Vector")

    class Meta:
        db_table = "Odd Products"
        indexes = [EmbeddingIndex(fields=["embedding"], name="odd_hnsw")]


class OddCompanion(models.Model):
    odd = models.OneToOneField(Odd, models.CASCADE, primary_key=True, db_column="The Product")
    embedding = EmbeddingField(source="odd__image", product="odd", dimensions=DIMENSIONS)

    class Meta:
        db_table = "Odd Vectors"
        indexes = [EmbeddingIndex(fields=["embedding"], name="oddcompanion_hnsw")]


class ScopeError(Exception):
    pass


class ScopedManager(models.Manager):
    """As django-scopes': every use fails outside of a scope."""

    active = False

    def get_queryset(self):
        if not ScopedManager.active:
            raise ScopeError("A scope on dimension(s) shop needs to be active for this query.")
        return super().get_queryset()


class Maker(models.Model):
    name = models.CharField(max_length=40)


class BusyManager(models.Manager):
    """Joins over a nullable relation, and counts: rows of such a queryset can't be locked."""

    def get_queryset(self):
        return super().get_queryset().select_related("maker").annotate(n=models.Count("tags"))


class Tag(models.Model):
    name = models.CharField(max_length=40)


class Busy(models.Model):
    """Its only manager has another name, and Django's own work goes by it."""

    maker = models.ForeignKey(Maker, models.SET_NULL, null=True)
    tags = models.ManyToManyField(Tag)
    image = models.ImageField(upload_to="busy", storage=CountingStorage())
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)
    things = BusyManager()

    class Meta:
        base_manager_name = "things"
        indexes = [EmbeddingIndex(fields=["embedding"], name="busy_hnsw")]


class Scoped(models.Model):
    image = models.ImageField(upload_to="scoped")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)
    objects = ScopedManager()

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="scoped_hnsw")]


class Tracked(models.Model):
    """Remembers what was loaded, as django-dirtyfields and the FieldTracker of django-model-utils do."""

    name = models.CharField(max_length=40)
    image = models.ImageField(upload_to="tracked")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="tracked_hnsw")]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.remembered = self.loaded()

    def loaded(self):
        deferred = self.get_deferred_fields()
        names = [field.attname for field in self._meta.concrete_fields if field.attname not in deferred]
        return {name: copy.deepcopy(getattr(self, name)) for name in names if name != "image"}

    def changed(self):
        return sorted(name for name, value in self.loaded().items() if self.remembered.get(name) != value)


class Base(models.Model):
    image = models.ImageField(upload_to="base")


class Middle(Base):
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="middle_hnsw")]


class Leaf(Middle):
    size = models.IntegerField(default=1)


class TranslatedText(models.Model):
    """As django-parler's: the texts of a product are rows of their own."""

    master = models.ForeignKey(Named, models.CASCADE, related_name="translations")
    language_code = models.CharField(max_length=5)


class Listed(models.Model):
    """A view of the database."""

    image = models.ImageField(upload_to="named")

    class Meta:
        managed = False
        db_table = "fieldshop_listed"


class ListedCompanion(models.Model):
    listed = models.OneToOneField(Listed, models.DO_NOTHING, primary_key=True, db_constraint=False, related_name="+")
    embedding = EmbeddingField(source="listed__image", product="listed", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="listedcompanion_hnsw")]


from . import report_models  # noqa: E402, F401 - Django finds models in this module
