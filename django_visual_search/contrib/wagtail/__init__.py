"""Wagtail: renditions as thumbnails, and images that look alike where editors choose and edit images.

An app to install before Wagtail's, whose template of an image's page it extends. ``panels`` finds images within
the user's permissions and shows them beside a page's image.
"""
