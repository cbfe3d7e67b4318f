"""A catalogue drawn with Pillow: the same products, prices and pictures on every machine.

Entry functions: ``catalogue.catalogue`` and ``write.write_all``. A *design* says what a product looks like; a *cut-out*
is the product on a transparent ground, painted on a *canvas* part by part; a *scene* is what is behind it.
"""
