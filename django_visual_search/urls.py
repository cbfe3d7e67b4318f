"""``path("visual-search/", include("django_visual_search.urls"))``: API and photo page over ``VISIBLE``; feedback."""

from django.urls import path

from .api import viewset
from .api.feedback import FeedbackView, ReactionView
from .views import photo_search

app_name = "visual_search"
urlpatterns = [
    path("feedback/", FeedbackView.as_view(), name="feedback"),
    path("reactions/", ReactionView.as_view(), name="reactions"),
    path("photo/<str:app_label>/<str:model_name>/", photo_search, name="photo_search"),
    path("<str:app_label>/<str:model_name>/objects/", viewset.objects_view, name="objects"),
    path("<str:app_label>/<str:model_name>/search-by-image/", viewset.search_by_image_view, name="search-by-image"),
    path("<str:app_label>/<str:model_name>/search-by-text/", viewset.search_by_text_view, name="search-by-text"),
    path("<str:app_label>/<str:model_name>/<path:product>/similar/", viewset.similar_view, name="similar"),
]
