"""A catalogue drawn with Pillow: the same products, prices and pictures on every machine."""
