"""What an operator does: migrations, the embedded server, logins, distribution over Citus, the sweep of expired evidence.

Units of work need nothing of it once they run.
"""
