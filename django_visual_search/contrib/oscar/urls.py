"""``path("", include("django_visual_search.contrib.oscar.urls"))``, before Oscar's own URLs."""

from django.apps import apps
from django.urls import include, path

from . import NAMESPACE

urlpatterns = [
    path("visual-search/", include("django_visual_search.urls")),
    path("dashboard/visual-search/", apps.get_app_config(NAMESPACE).urls),
]
