"""Hooks for MMEngine's Runner."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .ba2m_anneal_hook import BA2MAnnealHook
from .ba2m_logger_hook import BA2MLoggerHook
from .channels_last_hook import ChannelsLastHook
from .random_state_hook import RandomStateHook
from .resume_val_hook import ResumeValHook
from .terminate_on_nan_hook import TerminateOnNaNHook
from .training_checks_hook import TrainingChecksHook

__all__ = [
    'AtomicCheckpointHook',
    'BA2MAnnealHook',
    'BA2MLoggerHook',
    'ChannelsLastHook',
    'RandomStateHook',
    'ResumeValHook',
    'TerminateOnNaNHook',
    'TrainingChecksHook',
]
