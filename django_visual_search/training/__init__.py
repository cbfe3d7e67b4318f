"""Learns heads and backbones from the shop's own catalogue and feedback, and keeps what was learned."""
