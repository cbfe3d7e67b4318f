"""django-oscar: similar items and photo search in its pages, status, findability and rules in its dashboard.

An app to install before Oscar's and before this one; its templates extend Oscar's own (``templates``). ``models`` has
the companion of Oscar's pictures and the products that visitors may see, ``feedback`` records purchases and returns
from Oscar's signals, ``dashboard`` has the pages for staff.
"""

NAMESPACE = "visual_search_oscar"
"""The app's label, and the namespace of its pages in the dashboard."""
