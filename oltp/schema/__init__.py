"""The database's schema: bringing it to this release, and where it differs from it."""
