"""What modeltranslation adds to the models: a column per language, and managers of its own."""

from modeltranslation.translator import TranslationOptions, register

from . import models


@register(models.Translated)
class TranslatedOptions(TranslationOptions):
    fields = ("name", "image")


@register(models.TranslatedThing)
class TranslatedThingOptions(TranslationOptions):
    fields = ("name",)


@register(models.TranslatedPicture)
class TranslatedPictureOptions(TranslationOptions):
    fields = ("caption",)


@register(models.TranslatedCompanion)
class TranslatedCompanionOptions(TranslationOptions):
    fields = ("note",)
