"""Settings of the field shop: the test suite's own, with packages of real shops."""

from ..settings import *  # noqa: F403
from ..settings import DATABASES, INSTALLED_APPS, Path, database, os, tempfile

DATABASES["default"] = database(
    Path(os.environ.get("TEST_POSTGRES", Path(tempfile.gettempdir()) / f"visual-search-tests-{os.getuid()}")),
    name="field",
    tune={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
)
DATABASES["second"] = {**DATABASES["default"], "NAME": "second"}
DATABASES["tenants"] = {
    **DATABASES["default"],
    "ENGINE": "django_tenants.postgresql_backend",
    "TEST": {"MIRROR": "default"},
}
INSTALLED_APPS = [
    "modeltranslation",
    *(app for app in INSTALLED_APPS if app != "tests.testshop"),
    "easy_thumbnails",
    "imagekit",
    "pictures",
    "polymorphic",
    "simple_history",
    "sorl.thumbnail",
    "treebeard",
    "tests.fieldshop",
]
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LANGUAGE_CODE = "en"
HASHID_FIELD_SALT = "salt"
PICTURES = {"PROCESSOR": "pictures.tasks._process_picture", "FILE_TYPES": ["WEBP"], "USE_PLACEHOLDERS": False}
ROOT_URLCONF = "tests.fieldshop.urls"
COLOURS = "tests.testshop.extractors.ColourExtractor"
VISUAL_SEARCH = {
    "EXTRACTORS": {"default": {"BACKEND": COLOURS}, "other": {"BACKEND": COLOURS, "OPTIONS": {"version": 2}}}
}
