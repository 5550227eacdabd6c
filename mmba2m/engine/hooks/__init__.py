"""Hooks for MMEngine's Runner."""

from .ba2m_anneal_hook import BA2MAnnealHook

__all__ = ['BA2MAnnealHook']
