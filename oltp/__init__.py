"""PostgreSQL: books, hot rows and the ledger. Internal: it may change in any version."""
