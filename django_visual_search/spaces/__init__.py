"""Spaces: the extractor and the head that make a field's vectors, and what the database keeps of both.

Entry function: ``heads.wanted_extractor``. Vectors can be compared within a *space*: that of an extractor, or of an
extractor with a learned *head*. One space is *serving* a field; during a switch, a second one is *live*. *Artifacts*
are exported models in the database; *features* are a backbone's numbers for a picture, kept for other heads.
"""
