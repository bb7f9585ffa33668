"""What people and programs ask for: an order each, carried out on the ledger by whoever holds it.

The daemon does so for its control socket, and the command line by itself where no daemon runs.
"""
