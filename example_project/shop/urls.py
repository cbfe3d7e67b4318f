from django.urls import path

from . import views

app_name = "shop"
urlpatterns = [
    path("", views.product_list, name="products"),
    path("products/<slug:slug>/", views.product_detail, name="product"),
    path("products/<slug:slug>/buy/", views.buy, name="buy"),
    path("photo-search/", views.PhotoSearch.as_view(), name="photo_search"),
    path("photo-search/sample/<slug:name>/", views.SamplePhoto.as_view(), name="sample"),
]
