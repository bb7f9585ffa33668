"""The main job as its users have it: real `uploaderd` processes, real servers, real files.

Nothing of the daemon is imported to do the work; a test looks at what a person could look at: the
command line, the log, the ledger (read-only) and, through the vendors' own clients, the providers.
"""
