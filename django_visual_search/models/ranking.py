"""Tables that rankers read: evidence summed from feedback, and rules made by staff."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldError, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, router
from django.utils.translation import gettext_lazy as _

from ..db.rows import all_rows, attribute_field, key_text, rows_with
from ..fields.products import searched_key
from ..fields.registry import fields_of_product


class Evidence(models.Model):
    """The sum of the feedback on one hit, for one query product; for all queries where ``query_id`` is empty.

    ``gain`` sums what shoppers did (a click is 1, the others as in ``feedback.events``), ``exposure`` how often they
    are expected to have looked at the hit: each impression counts the probability of a look at its rank,
    ``rank ** -POSITION_BIAS``. So ``gain / exposure`` is the click-through rate corrected for position, or more if
    shoppers bought. A hit shown 100 times at rank 1 with 10 clicks has 10 / 100; one shown 100 times at rank 5 with 4
    clicks has 4 / 20, which is better: of those who saw it, twice as many clicked. Rates of a few looks say little, and
    can exceed 1.

    Both hold at ``as_of`` and halve every ``HALF_LIFE_DAYS`` from then on; events are added after their own decay. The
    row for all queries sums those of its query products, and its photo searches.
    """

    model = models.CharField(_("model"), max_length=201, help_text=_("The product's model, app.model in lower case."))
    query_id = models.CharField(_("query product"), max_length=255, blank=True)
    object_id = models.CharField(_("product"), max_length=255)
    gain = models.FloatField(_("gain"), default=0)
    exposure = models.FloatField(_("exposure"), default=0)
    as_of = models.DateTimeField(_("as of"))

    class Meta:
        verbose_name = _("evidence")
        verbose_name_plural = _("evidence")
        constraints = [
            models.UniqueConstraint(fields=["model", "query_id", "object_id"], name="visual_search_one_evidence")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.query_id or '*'} -> {self.object_id}"


class RankingRule(models.Model):
    """A product that staff pin to a slot, boost, or hide in visual results; or all products with some attribute.

    ``object_id`` names the one product; ``attribute`` and ``value`` those that are boosted or hidden together.
    """

    class Kind(models.TextChoices):
        PIN = "pin", _("pin to a slot")
        BOOST = "boost", _("boost")
        HIDE = "hide", _("hide")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    content_type = models.ForeignKey(ContentType, models.CASCADE, verbose_name=_("model"), related_name="+")
    object_id = models.CharField(
        _("product"), max_length=255, blank=True, help_text=_("Primary key of the product; empty for an attribute.")
    )
    product = GenericForeignKey("content_type", "object_id")
    attribute = models.CharField(
        _("attribute"),
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text=_("Instead of one product: a path from it, such as category or brand__name."),
    )
    value = models.CharField(
        _("value"),
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text=_("What the attribute is of the products to boost or hide; the primary key where it leads to a row."),
    )
    query_id = models.CharField(
        _("only for"),
        max_length=255,
        blank=True,
        help_text=_("Primary key of the product whose similar items the rule changes; empty for every search."),
    )
    slot = models.PositiveSmallIntegerField(
        _("slot"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("For a pin: its rank, 1 is the first."),
    )
    factor = models.FloatField(
        _("factor"),
        default=1.2,
        validators=[MinValueValidator(0.5), MaxValueValidator(2.0)],
        help_text=_("For a boost: how much nearer the product counts, 0.5 to 2; below 1 it counts as farther."),
    )
    starts_at = models.DateTimeField(_("starts at"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends at"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=255, blank=True)

    class Meta:
        verbose_name = _("ranking rule")
        verbose_name_plural = _("ranking rules")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(attribute="") | (models.Q(object_id="") & ~models.Q(kind="pin")),
                name="visual_search_rule_names_one",
            ),
            # Without slot__isnull a pin without a slot would pass: a comparison with NULL is not false.
            models.CheckConstraint(
                condition=~models.Q(kind="pin") | models.Q(slot__isnull=False, slot__gte=1),
                name="visual_search_pin_has_slot",
            ),
            # NaN is out of bounds too: PostgreSQL sorts it last.
            models.CheckConstraint(
                condition=models.Q(factor__gte=0.5, factor__lte=2.0), name="visual_search_boost_in_bounds"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.object_id or f'{self.attribute}={self.value}'}"

    def clean(self) -> None:
        """Write the products' keys as searches do, a variant's parent's. Raises ValidationError for useless rules."""
        if self.content_type_id is None:
            return  # the form reports that it is missing
        model = self.content_type.model_class()
        fields = fields_of_product(model) if model else []
        if not fields:
            raise ValidationError({"content_type": _("Products of this model are not found by their pictures.")})
        products = fields[0].product_model._meta.concrete_model
        self.content_type = ContentType.objects.get_for_model(products)
        wrong: dict[str, Any] = {}
        if self.attribute:
            wrong = self._wrong_attribute(products)
        elif not self.object_id:
            wrong["object_id"] = _("Name a product, or an attribute and its value.")
        for name in ("object_id", "query_id"):
            if text := getattr(self, name):
                product = _find(products, text)
                if product is None:
                    wrong[name] = _("There is no product with the primary key %(key)s.") % {"key": text}
                else:
                    searched = searched_key(fields[0], product)
                    setattr(self, name, key_text(products, searched, router.db_for_read(products)))
        if not wrong and self.object_id and self.object_id == self.query_id:
            wrong["query_id"] = _("A product is not among its own similar items.")
        if self.kind == self.Kind.PIN and self.slot is None:
            wrong["slot"] = _("A pin needs a slot: the product's rank.")
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            wrong["ends_at"] = _("It ends before it starts.")
        if wrong:
            raise ValidationError(wrong)
        if self.kind != self.Kind.PIN:
            self.slot = None

    def _wrong_attribute(self, products: type[models.Model]) -> dict[str, Any]:
        """Trim ``attribute`` and ``value``, and return their faults."""
        self.attribute, self.value = self.attribute.strip(), self.value.strip()
        if self.object_id:
            return {"attribute": _("Name a product or an attribute, not both.")}
        if self.kind == self.Kind.PIN:
            return {"attribute": _("A slot holds one product: pin a product, or boost the attribute.")}
        try:
            field = attribute_field(products, self.attribute)
        except LookupError as e:
            return {"attribute": str(e.args[0])}
        if not self.value:
            return {"value": _("Give the value whose products the rule is about.")}
        try:
            rows_with(products, self.attribute, self.value)
            if field.is_relation and _find(field.related_model, self.value) is None:
                raise ValueError
        except (ValueError, TypeError, FieldError):
            return {"value": _("%(value)s is not a value of %(attribute)s.") % vars(self)}
        return {}


def _find(model: type[models.Model], key: str) -> models.Model | None:
    try:
        return all_rows(model).filter(pk=key.strip()).only("pk").first()
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None
