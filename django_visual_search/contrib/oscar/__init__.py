"""django-oscar: similar items and photo search in its pages, status, findability and rules in its dashboard.

An app to install before Oscar's, whose templates extend Oscar's own (``templates``). ``models`` has the companion of
Oscar's pictures, ``products`` says what visitors may see, ``feedback`` records purchases and returns from Oscar's
signals, ``thumbnails`` uses Oscar's thumbnailer, ``dashboard`` has the pages for staff.
"""
