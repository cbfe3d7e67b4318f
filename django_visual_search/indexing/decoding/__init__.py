"""Decode pictures in processes of their own, so that no picture can take a worker down.

Entry function: ``pool.get_pool``. A *decoder* is one such process; the *pool* is all of this process's decoders.
"""
