"""Integrations with other packages' shops, one package each: apps to install beside ``django_visual_search``.

May import: everything of this app; nothing of this app imports them. Each imports the package that it is for.
"""
