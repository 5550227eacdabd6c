"""Measuring time and memory of networks side by side."""
