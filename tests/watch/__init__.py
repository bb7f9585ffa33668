"""The watcher on a real tree, with the kernel's real events."""
