"""Checkpoints: read, written, checked, resumed from, and converted."""
