"""Wagtail: renditions as thumbnails, and images that look alike where editors choose and edit images.

An app to install before Wagtail's, whose template of an image's page it extends. ``thumbnails`` makes renditions,
``similar`` finds images within the user's permissions, ``panels`` shows them beside a page's image.
"""
