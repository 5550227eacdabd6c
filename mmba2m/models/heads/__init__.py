"""Heads of the hosts that train across the batch."""
