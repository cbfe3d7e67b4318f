"""Learns heads from a shop's own pictures and measures them. NumPy and scikit-learn; nothing here imports Django."""
