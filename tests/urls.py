from django.contrib import admin
from django.urls import include, path

from .testshop.api import router

urlpatterns = [
    path("admin/", admin.site.urls),
    path("visual-search/", include("django_visual_search.urls")),
    path("api/", include(router.urls)),
]
