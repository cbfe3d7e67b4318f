"""Integrations with other packages: shop platforms as apps to install beside this one, and ``thumbnails``.

May import: everything of this app; nothing of this app imports them. Each imports the package that it is for.
"""
