"""Lets the tests of BA²M, in a folder of theirs, import attention_checks."""
