"""The form by which staff search by photo."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

SIDES = ("left", "top", "right", "bottom")
LIMITS = (24, 48, 96)


def _percent(label: Any, default: int) -> forms.IntegerField:
    attributes = {"placeholder": default, "min": 0, "max": 100}
    return forms.IntegerField(
        label=label, required=False, min_value=0, max_value=100, widget=forms.NumberInput(attributes)
    )


class StaffPhotoForm(forms.Form):
    """A photo, the part of it to look at, and how many hits. A subclass may add fields of the shop's own."""

    photo = forms.FileField(
        label=_("Photo"),
        widget=forms.FileInput({"accept": "image/*"}),
        error_messages={
            "required": _("Choose a photo first."),
            "empty": _("The file is empty. Choose a picture."),
            "invalid": _("Choose a photo first."),
        },
    )
    left = _percent(_("Left"), 0)
    top = _percent(_("Top"), 0)
    right = _percent(_("Right"), 100)
    bottom = _percent(_("Bottom"), 100)
    limit = forms.TypedChoiceField(
        label=_("Hits"),
        coerce=int,
        choices=[(n, n) for n in LIMITS],
        initial=LIMITS[0],
        required=False,
        empty_value=LIMITS[0],
    )

    @staticmethod
    def limit_of(said: Any) -> int:
        """The number of hits that a query string asks for, of those there are to choose from."""
        return next((limit for limit in LIMITS if str(limit) == said.get("limit")), LIMITS[0])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        given = [cleaned.get(side) for side in SIDES]
        cleaned["crop"] = None
        if any(value is not None for value in given) and not any(side in self.errors for side in SIDES):
            left, top, right, bottom = (d if v is None else v for v, d in zip(given, (0, 0, 100, 100), strict=True))
            if left >= right or top >= bottom:
                self.add_error(
                    None, _("Of the part to look at, left must be less than right, and top less than bottom.")
                )
            elif (left, top, right, bottom) != (0, 0, 100, 100):
                cleaned["crop"] = (left / 100, top / 100, right / 100, bottom / 100)
        return cleaned

    @property
    def crop_fields(self) -> list[Any]:
        return [self[side] for side in SIDES]

    @property
    def part_is_given(self) -> bool:
        """Whether the fields for the part have to be seen: something is in them, right or wrong."""
        return any(field.value() not in (None, "") for field in self.crop_fields)

    @property
    def own_fields(self) -> list[Any]:
        """Those that the shop added."""
        return [self[name] for name in self.own_names]

    @property
    def own_names(self) -> list[str]:
        return [name for name in self.fields if name not in StaffPhotoForm.base_fields]
