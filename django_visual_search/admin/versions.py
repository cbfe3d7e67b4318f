"""What differs between the Django versions that the admin pages run under."""

import django

BREADCRUMB_LIST = django.VERSION >= (6, 1)
"""Whether the admin's breadcrumbs are a list rather than text with arrows."""
