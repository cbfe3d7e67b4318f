"""Decode pictures in processes with limits of memory and time.

No picture can end or block a worker or a web process.

Entry functions: ``photos.decode_photo`` for the photo of a search, ``pool.get_pool`` for pictures of the catalogue. A
*decoder* is one such process; the *pool* is this process's decoders for the catalogue.
"""
