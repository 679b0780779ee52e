"""The checker of the twelve invariants: reads the database, workers' ledgers and clients' logs after a test."""
