"""Why a picture could not be embedded, in the current language: ``reason_in_words``.

Attempts keep their message in English, with figures and words of other programs, and its code.
"""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

REASONS = {
    "empty": _("The file is empty. Choose a picture."),
    "too_large": _("The file is too large. Save the picture smaller or at a lower quality."),
    "format": _("The file is not a picture in an accepted format. Save it as JPEG."),
    "heic": _("HEIC photos can't be read here. Send the photo as JPEG, or have django-visual-search[heic] installed."),
    "corrupt": _("The picture is truncated or broken. Save or photograph it again."),
    "pixels": _("The picture is too large to decode. Scale it down, for example to 2000 pixels on the longest side."),
    "side": _("The picture is too small, too large or too thin. Use one that is larger, or nearer to a square."),
    "memory": _("There was not enough memory for the picture. Scale it down and try again."),
    "time": _("Decoding this picture takes too long. Save it again, or smaller."),
    "profile": _("The picture's colour profile would take too long to apply. Save the picture in sRGB."),
    "decode_time": _("Decoding this picture took too long and was stopped."),
    "decode_crash": _("The process that decoded this picture was ended, as where the machine has too little memory."),
    "unsafe_name": _("The storage refuses the picture's name."),
    "missing_file": _("The storage does not have the picture's file."),
    "storage": _("The storage failed."),
    "extractor": _("The extractor failed on this picture."),
    "worker_lost": _("Each attempt ended with its worker lost. Replace the picture, or retry it."),
}
"""By the attempt's code, without figures."""


def reason_in_words(code: str, message: str) -> str:
    """Return the attempt's message; in another language its translation, or else what its code means.

    Where neither is translated, the message as it is.
    """
    if not message:
        return ""
    said = gettext(message)
    if said == message and code in REASONS:
        general = gettext(REASONS[code])
        return message if general == REASONS[code] else general
    return said
