"""Visual search for Django shops: similar products and search by photo, in the shop's own PostgreSQL."""

__version__ = "0.1.0"
