"""The version of mmba2m."""

__version__ = '0.1.0'
