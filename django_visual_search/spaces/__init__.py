"""Spaces: the extractor and the head that make a field's vectors, and their rows in the database.

Entry function: ``heads.serving_extractor``. Vectors can be compared within a *space*: that of an extractor, or of an
extractor with a learned *head*. A space in which a field's vectors may be is *live*: one, or two during a switch; new
vectors are made in the *serving* one. *Artifacts* are exported models in the database; *features* are a backbone's
numbers for a picture, kept for other heads.
"""
