"""Hooks for MMEngine's Runner."""

from .ba2m_anneal_hook import BA2MAnnealHook
from .terminate_on_nan_hook import TerminateOnNaNHook

__all__ = ['BA2MAnnealHook', 'TerminateOnNaNHook']
