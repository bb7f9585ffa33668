"""`uploaderd doctor`, at real servers."""
