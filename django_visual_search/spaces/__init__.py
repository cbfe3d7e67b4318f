"""Which extractor and which head make the vectors of a field, and where their parts are kept.

Entry function: ``heads.wanted_extractor``. A *space* is what vectors can be compared in: an extractor, or an extractor
with a learned *head*. One space *serves* a field; while a switch goes on, a second one is live. *Artifacts* are
exported models kept in the database; *features* are what a backbone made of a picture, kept for other heads.
"""
