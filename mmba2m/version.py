"""The version of mmba2m."""

__version__ = '1.0.0'
