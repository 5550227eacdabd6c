"""What package and tools share: command line, checks of stack and input."""
