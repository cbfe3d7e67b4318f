from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("visual-search/", include("django_visual_search.urls"))]
