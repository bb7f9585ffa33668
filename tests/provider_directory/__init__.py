"""What is special about a directory as a provider; what it shares with all is in `tests.contract`."""
