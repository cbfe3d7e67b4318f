"""Every check of one field's declaration: exact messages, with the hint that says what to write."""

import functools
import uuid

import pytest
from django.core import checks
from django.db import models
from django.test.utils import isolate_apps
from pgvector.django import HnswIndex, IvfflatIndex

from django_visual_search.fields import EmbeddingField, EmbeddingIndex

SOURCE_HINT = "Give the path of forward relations to an ImageField."
PRODUCT_HINT = (
    "Give the path of forward relations from this model to the product, such as product='image__product', or several, "
    "of which the first that leads somewhere counts: product=('image__product__parent', 'image__product')."
)


PRODUCTS_SOURCE = f"{SOURCE_HINT} Of this model, 'source' may be 'image'."
COMPANIONS_SOURCE = f"{SOURCE_HINT} Of this model, 'source' may be 'picture__original'."
COMPANIONS_PRODUCT = (
    f"{PRODUCT_HINT} Of this model, 'product' may be 'picture' or 'picture__item' or 'picture__item__parent' or 'self'."
)
DIFFERENT_ENDS = (
    "The paths of 'product' lead to different models: 'picture__item' to testshop.Item, 'self' to "
    "testshop.PictureEmbedding."
)
NOTHING = "This model has nothing that 'source' could name."


def error(number, message, hint, obj):
    return checks.Error(message, hint=hint, obj=obj, id=f"visual_search.E{number:03}")


def index_hint(model, metric="cosine"):
    index = f"EmbeddingIndex(fields=['embedding'], name=…, metric='{metric}')"
    return f"Add {index} to {model}.Meta.indexes and make a migration."


@pytest.fixture(autouse=True)
def isolated():
    with isolate_apps("tests.testshop"):
        yield


def product(indexes=None, bases=(models.Model,), **options):
    """The field of a model with these options of the field."""
    options = {"source": "image", "dimensions": 48, **options}
    if indexes is None:
        indexes = [HnswIndex(fields=["embedding"], name="x", opclasses=["halfvec_cosine_ops"])]

    class Broken(*bases):
        name = models.CharField(max_length=10)
        image = models.ImageField()
        embedding = EmbeddingField(**options)

        class Meta:
            app_label = "testshop"

        Meta.indexes = indexes

    return Broken._meta.get_field("embedding")


def companion(link=None, **options):
    class Item(models.Model):
        title = models.CharField(max_length=10)
        parent = models.ForeignKey("self", models.CASCADE, null=True)

        class Meta:
            app_label = "testshop"

    class Picture(models.Model):
        item = models.ForeignKey(Item, models.CASCADE)
        original = models.ImageField()
        caption = models.CharField(max_length=10)

        class Meta:
            app_label = "testshop"

    class PictureEmbedding(models.Model):
        picture = link(Picture) if link else models.OneToOneField(Picture, models.CASCADE, primary_key=True)
        embedding = EmbeddingField(
            **{"source": "picture__original", "product": "picture__item", "dimensions": 48, **options}
        )

        class Meta:
            app_label = "testshop"
            indexes = [EmbeddingIndex(fields=["embedding"], name="y")]

    return PictureEmbedding._meta.get_field("embedding")


def shared(**options):
    """The field of a page whose photo other pages may have too."""

    class Set(models.Model):
        cover = models.ImageField()
        focal_point_x = models.PositiveIntegerField()
        focal_point_y = models.PositiveIntegerField()
        focal_point_width = models.PositiveIntegerField()
        focal_point_height = models.PositiveIntegerField()

        class Meta:
            app_label = "testshop"

    class Photo(models.Model):
        file = models.ImageField(width_field="width", height_field="height")
        width = models.IntegerField()
        height = models.IntegerField()
        set = models.ForeignKey(Set, models.CASCADE)
        focal_point_x = models.PositiveIntegerField()
        focal_point_y = models.PositiveIntegerField()
        focal_point_width = models.PositiveIntegerField()
        focal_point_height = models.PositiveIntegerField()

        class Meta:
            app_label = "testshop"

    class Page(models.Model):
        photo = models.ForeignKey(Photo, models.SET_NULL, null=True)
        title = models.CharField(max_length=10)
        embedding = EmbeddingField(**{"source": "photo__file", "crop": "focal_point", "dimensions": 48, **options})

        class Meta:
            app_label = "testshop"
            indexes = [EmbeddingIndex(fields=["embedding"], name="p")]

    return Page._meta.get_field("embedding")


SOUND = ["picture__item", "picture", None, "self", ["self"], ("picture__item__parent", "picture__item")]


@pytest.mark.parametrize("path", SOUND)
def test_sound(path):
    assert product().check() == []
    assert companion(product=path).check() == []


@pytest.mark.parametrize("dimensions", [None, 0, -1, 4001, "256", 25.6])
def test_dimensions(dimensions):
    field = product(dimensions=dimensions)
    hint = "Write dimensions=256, or another whole number from 1 to 4000."
    assert field.check() == [error(1, f"'dimensions' is {dimensions!r}.", hint, field)]


def test_metric():
    field = product(metric="cosin")
    assert field.check() == [error(2, "'metric' is 'cosin'.", "Use one of 'cosine', 'l2', 'ip'.", field)]


class TestSource:
    @pytest.mark.parametrize("source", [None, "", 5, models.ImageField])
    def test_missing(self, source):
        field = product(source=source)
        assert field.check() == [error(3, "'source' is missing.", PRODUCTS_SOURCE, field)]

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("photo", "Broken has no field named 'photo'"),
            ("photo__original", "Broken has no field named 'photo'"),
        ],
    )
    def test_no_such_field(self, source, reason):
        field = product(source=source)
        assert field.check() == [error(3, f"'source' {source!r} does not exist: {reason}.", PRODUCTS_SOURCE, field)]

    def test_no_such_field_over_the_link(self):
        field = companion(source="picture__photo")
        message = "'source' 'picture__photo' does not exist: Picture has no field named 'photo'."
        assert field.check() == [error(3, message, COMPANIONS_SOURCE, field)]

    def test_too_far(self):
        field = companion(source="picture__a__b__c__d__image")
        message = "'source' 'picture__a__b__c__d__image' leads over more than 4 relations."
        assert field.check() == [error(4, message, COMPANIONS_SOURCE, field)]

    @pytest.mark.parametrize(
        "link",
        [
            lambda to: models.ManyToManyField(to),
            lambda to: models.OneToOneField("nowhere.Picture", models.CASCADE),
            lambda to: models.CharField(max_length=10),
        ],
    )
    def test_not_a_relation(self, link):
        field = companion(link)
        message = (
            "'source' 'picture__original' goes through 'picture', which is not a foreign key to an installed model."
        )
        assert field.check() == [error(5, message, f"{SOURCE_HINT} {NOTHING}", field)]

    def test_a_companion_whose_rows_nobody_makes(self):
        field = companion(lambda to: models.ForeignKey(to, models.CASCADE))
        message = "Rows of 'PictureEmbedding' are made by nobody: 'picture' is a foreign key, which many may share."
        hint = (
            "For one vector of each picture, made for you, make 'picture' a OneToOneField, best with primary_key=True."
        )
        assert field.check() == [checks.Warning(message, hint=hint, obj=field, id="visual_search.W015")]

    def test_over_a_foreign_key(self):
        assert shared().check() == []

    def test_a_foreign_key_is_not_an_image(self):
        field = shared(source="photo")
        message = "'source' 'photo' is a ForeignKey, not an ImageField."
        assert field.check() == [
            error(
                6, message, f"{SOURCE_HINT} Of this model, 'source' may be 'photo__file' or 'photo__set__cover'.", field
            )
        ]

    def test_crop_of_a_picture_of_unknown_size(self):
        field = shared(source="photo__set__cover", crop="focal_point")
        message = "'crop' is 'focal_point', and 'Set.cover' has no width_field and height_field."
        hint = "The area is in pixels of that size: name integer columns in width_field and height_field."
        assert field.check() == [error(28, message, hint, field)]

    @pytest.mark.parametrize("crop", ["middle", "focal_point_x"])
    def test_crop(self, crop):
        field = shared(crop=crop)
        sides = ", ".join(f"'{crop}_{side}'" for side in ("x", "y", "width", "height"))
        message = f"'crop' is {crop!r}, and 'Photo' has not all of the integer columns {sides}."
        hint = "They are an area's centre and size in pixels. Of this model, 'crop' may be 'focal_point'."
        assert field.check() == [error(28, message, hint, field)]

    @pytest.mark.parametrize("only", [models.Q(nothing=1), models.Q(photo__nothing=1), models.Q(photo__set="x")])
    def test_only_by_what_the_row_has_not(self, only):
        [problem] = shared(only=only).check()
        assert problem.id == "visual_search.E030"
        assert "'Page'" in problem.msg

    def test_only(self):
        assert shared(only=models.Q(title="x", photo__set__gt=3)).check() == []

    def test_not_an_image(self):
        field = product(source="name")
        assert field.check() == [error(6, "'source' 'name' is a CharField, not an ImageField.", PRODUCTS_SOURCE, field)]

    def test_not_an_image_over_the_link(self):
        field = companion(source="picture__caption")
        message = "'source' 'picture__caption' is a CharField, not an ImageField."
        assert field.check() == [error(6, message, COMPANIONS_SOURCE, field)]


class TestProduct:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("nothing", "PictureEmbedding has no field named 'nothing'"),
            ("picture__nothing", "Picture has no field named 'nothing'"),
            ("picture__item__nothing", "Item has no field named 'nothing'"),
            ("", "PictureEmbedding has no field named ''"),
        ],
    )
    def test_no_such_path(self, path, reason):
        field = companion(product=path)
        message = f"'product' path {path!r} does not exist: {reason}."
        assert field.check() == [error(7, message, COMPANIONS_PRODUCT, field)]

    @pytest.mark.parametrize(("path", "name"), [("picture__caption", "caption"), ("picture__item__title", "title")])
    def test_not_a_relation(self, path, name):
        field = companion(product=path)
        message = f"'product' path {path!r}: '{name}' is not a forward relation."
        assert field.check() == [error(7, message, COMPANIONS_PRODUCT, field)]

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            ((), "'product' names no path."),
            (("picture__item", "picture__item"), "'product' names the path 'picture__item' twice."),
            (("picture__item", 5), "'product' path '5' does not exist: PictureEmbedding has no field named '5'."),
            (
                ["picture__item", "picture__caption"],
                "'product' path 'picture__caption': 'caption' is not a forward relation.",
            ),
            (
                ("picture__item", "self"),
                DIFFERENT_ENDS,
            ),
        ],
    )
    def test_several_paths(self, paths, message):
        field = companion(product=paths)
        assert field.check() == [error(7, message, COMPANIONS_PRODUCT, field)]

    def test_a_model_that_is_not_installed(self):
        class Lost(models.Model):
            image = models.ImageField()
            item = models.ForeignKey("nowhere.Item", models.CASCADE)
            embedding = EmbeddingField(source="image", product="item__x", dimensions=48)

            class Meta:
                app_label = "testshop"
                indexes = [EmbeddingIndex(fields=["embedding"], name="z")]

        field = Lost._meta.get_field("embedding")
        message = "'product' path 'item__x': 'item' leads to nowhere.Item, which is not an installed model."
        assert field.check() == [error(7, message, f"{PRODUCT_HINT} Of this model, 'product' may be 'self'.", field)]


class TestKeys:
    def test_a_composite_primary_key(self):
        class Variant(models.Model):
            pk = models.CompositePrimaryKey("sku", "colour")
            sku = models.CharField(max_length=10)
            colour = models.CharField(max_length=10)
            image = models.ImageField()
            embedding = EmbeddingField(source="image", dimensions=48)

            class Meta:
                app_label = "testshop"
                indexes = [EmbeddingIndex(fields=["embedding"], name="z")]

        field = Variant._meta.get_field("embedding")
        message = "'Variant' has a primary key of several columns, which is not supported."
        hint = (
            "Give the model a primary key of one column, with a UniqueConstraint over the columns of the present one."
        )
        assert field.check() == [error(21, message, hint, field)]


class TestCompanion:
    def with_columns(self, bases=(models.Model,), **columns):
        picture = companion().target_model
        body = {
            "__module__": __name__,
            "picture": models.OneToOneField(picture, models.CASCADE, related_name="+"),
            "embedding": EmbeddingField(source="picture__original", dimensions=48),
            "Meta": type(
                "Meta",
                (),
                {"app_label": "testshop", "indexes": [EmbeddingIndex(fields=["embedding"], name="z")]},
            ),
            **columns,
        }
        return type("Extended", bases, body)._meta.get_field("embedding")

    def test_columns_that_must_be_given(self):
        field = self.with_columns(
            weight=models.IntegerField(),
            owner=models.ForeignKey("testshop.Item", models.CASCADE),
            code=models.CharField(max_length=9, unique=True),
        )
        message = "Embedding a picture inserts a row of 'Extended', with no value for 'weight', 'owner', 'code'."
        hint = "Give each a default or null=True, or keep them in another model."
        assert field.check() == [error(22, message, hint, field)]

    def test_a_key_that_must_be_given(self):
        field = self.with_columns(code=models.CharField(max_length=9, primary_key=True))
        message = "Embedding a picture inserts a row of 'Extended', with no value for 'code'."
        hint = "Give each a default or null=True, or keep them in another model."
        assert field.check() == [error(22, message, hint, field)]

    def test_columns_that_fill_themselves(self):
        field = self.with_columns(
            uuid=models.UUIDField(primary_key=True, default=uuid.uuid4),
            weight=models.IntegerField(null=True),
            stock=models.IntegerField(default=0),
            seen=models.IntegerField(db_default=0),
            note=models.TextField(),
            made=models.DateTimeField(auto_now_add=True),
            changed=models.DateTimeField(auto_now=True),
            double=models.GeneratedField(
                expression=models.F("stock") * 2, output_field=models.IntegerField(), db_persist=True
            ),
        )
        assert field.check() == []

    def test_a_table_of_two(self):
        class Base(models.Model):
            class Meta:
                app_label = "testshop"

        field = self.with_columns((Base,))
        message = "Rows of 'Extended' can't be inserted in bulk: it inherits another model's table."
        hint = "Derive the companion from models.Model or from an abstract model."
        assert field.check() == [error(22, message, hint, field)]


class TestKeyTypes:
    """Row 5: keys whose text is not the same in Python and in the database."""

    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            (models.DateTimeField, "timestamp with time zone"),
            (models.DateField, "date"),
            (models.DurationField, "interval"),
            (models.FloatField, "double precision"),
            (functools.partial(models.DecimalField, max_digits=9, decimal_places=2), "numeric(9, 2)"),
            (models.GenericIPAddressField, "inet"),
            (models.BinaryField, "bytea"),
        ],
    )
    def test_of_an_unsure_text(self, key, kind):
        class Odd(models.Model):
            at = key(primary_key=True)
            image = models.ImageField()
            embedding = EmbeddingField(source="image", dimensions=8)

            class Meta:
                app_label = "testshop"
                indexes = [EmbeddingIndex(fields=["embedding"], name="x")]

        field = Odd._meta.get_field("embedding")
        message = f"The primary key of 'Odd' is a {kind}: pictures are found by the text of their row's key."
        hint = "Give the model a primary key of whole numbers, UUIDs or text, and the present one a UniqueConstraint."
        assert field.check() == [error(27, message, hint, field)]


class TestIndex:
    @pytest.mark.parametrize("indexes", [[], [models.Index(fields=["name"], name="n")]])
    def test_none(self, indexes):
        field = product(indexes)
        message = "There is no ANN index on this field: every search reads the whole table."
        warning = checks.Warning(message, hint=index_hint("Broken"), obj=field, id="visual_search.W001")
        assert field.check() == [warning]

    @pytest.mark.parametrize(
        ("index", "opclasses"),
        [
            (EmbeddingIndex(fields=["embedding"], name="x"), ["halfvec_cosine_ops"]),
            (HnswIndex(fields=["embedding"], name="x", opclasses=["vector_l2_ops"]), ["vector_l2_ops"]),
            (HnswIndex(fields=["embedding"], name="x"), []),
            (IvfflatIndex(fields=["embedding"], name="x", opclasses=["halfvec_ip_ops"]), ["halfvec_ip_ops"]),
        ],
    )
    def test_operator_class_of_another_metric(self, index, opclasses):
        field = product([index], metric="l2")
        message = f"Index 'x' has operator class {opclasses}, which metric 'l2' can't use."
        assert field.check() == [error(8, message, index_hint("Broken", "l2"), field)]

    @pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
    def test_every_metric_has_its_index(self, metric):
        assert product([EmbeddingIndex(fields=["embedding"], name="x", metric=metric)], metric=metric).check() == []

    def test_an_index_refuses_a_metric_it_does_not_know(self):
        with pytest.raises(ValueError, match="metric is one of cosine, l2, ip, not 'l1'"):
            EmbeddingIndex(fields=["embedding"], name="x", metric="l1")
