"""Models of the shapes in ``reports``."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Lower, Upper
from treebeard.mp_tree import MP_Node

from django_visual_search.fields import EmbeddingField, EmbeddingIndex

DIMENSIONS = 48


class Money:
    """An amount with its currency, which refuses plain numbers, as py-moneyed's does."""

    def __init__(self, amount, currency):
        self.amount, self.currency = amount, currency

    def __eq__(self, other):
        if not isinstance(other, Money):
            raise TypeError("Cannot compare a Money with something else.")
        return (self.amount, self.currency) == (other.amount, other.currency)

    __hash__ = None


class MoneyColumns:
    """Two columns as one attribute, as django-money's descriptor."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, row, owner=None):
        return self if row is None else Money(row.amount, row.currency)


class Shelf(MP_Node):
    """A category in a tree."""

    name = models.CharField(max_length=40)


class Attachment(models.Model):
    """A note on anything, as of packages that attach to every model."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    target = GenericForeignKey("content_type", "object_id")
    kind = models.CharField(max_length=40)


class Priced(models.Model):
    """Columns that the database computes, an order by expressions, a tree, attachments, and an image that is NULL."""

    name = models.CharField(max_length=40)
    amount = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    currency = models.CharField(max_length=3, db_default="EUR")
    price = MoneyColumns()
    title = models.GeneratedField(
        expression=Upper("name"), output_field=models.CharField(max_length=40), db_persist=True
    )
    shelf = models.ForeignKey(Shelf, models.SET_NULL, null=True)
    attachments = GenericRelation(Attachment)
    image = models.ImageField(upload_to="priced", null=True, blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        ordering = [models.F("amount").desc(nulls_last=True), Lower("name")]
        indexes = [EmbeddingIndex(fields=["embedding"], name="priced_hnsw")]


class Reduced(Priced):
    """A proxy with a manager of its own."""

    class Manager(models.Manager):
        def get_queryset(self):
            return super().get_queryset().filter(amount__lt=3)

    objects = Manager()

    class Meta:
        proxy = True


ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Ulid:
    """Shown as 26 letters, which PostgreSQL doesn't read as a UUID."""

    def __init__(self, value):
        self.uuid = value

    def __str__(self):
        number = self.uuid.int
        return "".join(ALPHABET[number >> 5 * place & 31] for place in range(25, -1, -1))

    def __eq__(self, other):
        return isinstance(other, Ulid) and self.uuid == other.uuid

    def __hash__(self):
        return hash(self.uuid)


class UlidField(models.UUIDField):
    def from_db_value(self, value, expression, connection):
        return self.to_python(value)

    def to_python(self, value):
        if isinstance(value, str) and len(value) == 26:
            number = 0
            for letter in value:
                number = number << 5 | ALPHABET.index(letter)
            value = uuid.UUID(int=number)
        value = value if isinstance(value, Ulid) else super().to_python(value)
        return Ulid(value) if isinstance(value, uuid.UUID) else value

    def get_db_prep_value(self, value, connection, prepared=False):
        value = self.to_python(value)
        return super().get_db_prep_value(value and value.uuid, connection, prepared)


def new_ulid():
    return Ulid(uuid.uuid4())


class Sorted(models.Model):
    """Its key is a ULID."""

    id = UlidField(primary_key=True, default=new_ulid, editable=False)
    image = models.ImageField(upload_to="sorted")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="sorted_hnsw")]


class SortedThing(models.Model):
    id = UlidField(primary_key=True, default=new_ulid, editable=False)


class SortedPicture(models.Model):
    id = UlidField(primary_key=True, default=new_ulid, editable=False)
    thing = models.ForeignKey(SortedThing, models.CASCADE)
    image = models.ImageField(upload_to="sorted")


class SortedCompanion(models.Model):
    picture = models.OneToOneField(SortedPicture, models.CASCADE, primary_key=True)
    embedding = EmbeddingField(source="picture__image", product="picture__thing", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="sortedcompanion_hnsw")]


class Tree(models.sql.Query):
    """A query whose compiler puts a recursive table in front, as django-tree-queries' does."""

    def get_compiler(self, *args, **kwargs):
        compiler = super().get_compiler(*args, **kwargs)
        plain = compiler.as_sql

        def as_sql(*args, **kwargs):
            sql, params = plain(*args, **kwargs)
            if not sql.startswith("SELECT"):
                return sql, params
            with_tree = (
                "WITH RECURSIVE __tree (node, depth) AS (SELECT id, 0 FROM fieldshop_branch WHERE parent_id IS NULL"
            )
            with_tree += " UNION ALL SELECT b.id, depth + 1 FROM fieldshop_branch b JOIN __tree ON b.parent_id = node) "
            return with_tree + sql, params

        compiler.as_sql = as_sql
        return compiler


class TreeQuerySet(models.QuerySet):
    def with_tree(self):
        self.query.__class__ = Tree
        return self.extra(tables=["__tree"], where=["__tree.node = fieldshop_branch.id"])


class Branch(models.Model):
    """A product that is a node of a tree, with the depth in a table that the query itself makes."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    image = models.ImageField(upload_to="branches")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)
    objects = TreeQuerySet.as_manager()

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="branch_hnsw")]


class Annotated(models.Model):
    """Columns named like our annotations, and words of SQL."""

    visual_product = models.CharField(max_length=40, default="x")
    visual_image = models.CharField(max_length=40, default="x")
    visual_wanted = models.CharField(max_length=40, default="x")
    visual_row = models.CharField(max_length=40, default="x", db_column="order")
    user = models.CharField(max_length=40, default="x", db_column="Select")
    image = models.ImageField(upload_to="annotated")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        db_table = "vectors"
        ordering = ["visual_row"]
        indexes = [EmbeddingIndex(fields=["embedding"], name="annotated_hnsw")]


class Coded(models.Model):
    """Its key is a text of any signs."""

    code = models.CharField(primary_key=True, max_length=40)
    image = models.ImageField(upload_to="coded")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="coded_hnsw")]


class Partial(models.Manager):
    def get_queryset(self):
        return super().get_queryset().defer("image", "embedding_key").annotate(first=models.F("name"))


class Hidden(models.sql.Query):
    """Adds its condition when it compiles."""

    def get_compiler(self, *args, **kwargs):
        if not self.is_sliced and not getattr(self, "told", False):
            self.told = True
            self.add_q(models.Q(gone=False))
        return super().get_compiler(*args, **kwargs)

    def clone(self):
        made = super().clone()
        made.told = getattr(self, "told", False)
        return made


class Everything(models.Manager):
    """Those that are gone too."""


class HidingManager(models.Manager):
    def get_queryset(self):
        return models.QuerySet(self.model, query=Hidden(self.model), using=self._db)


class Gone(models.Model):
    """Soft deletion by a query of its own."""

    name = models.CharField(max_length=40)
    gone = models.BooleanField(default=False)
    image = models.ImageField(upload_to="gone")
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)
    objects = HidingManager()
    partial = Partial()
    everything = Everything()

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="gone_hnsw")]


class Level(models.Model):
    """Style, variant and size: the deepest relation that leads somewhere is the product."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    image = models.ImageField(upload_to="levels", blank=True)
    embedding = EmbeddingField(source="image", product=("parent__parent", "parent", "self"), dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="level_hnsw")]
