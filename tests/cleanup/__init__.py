"""Cleanup: nothing is removed that is not proven, whatever recorder, provider or crash do meanwhile."""
