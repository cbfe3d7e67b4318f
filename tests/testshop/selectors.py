"""What visitors of the test shop may see."""

from __future__ import annotations

from .models import Article, Poster, Product, Shoe, Spare, Story


def visible_products(request=None):
    """Published products; staff see the others too."""
    user = getattr(request, "user", None)
    if user is not None and user.is_staff:
        return Product.objects.all()
    return Product.objects.filter(is_published=True)


def visible_articles(request=None):
    return Article.objects.filter(is_public=True)


def everything(model):
    """For what has nothing to hide."""
    return lambda request=None: model.objects.all()


visible_posters, visible_shoes, visible_spares, visible_stories = map(everything, (Poster, Shoe, Spare, Story))
