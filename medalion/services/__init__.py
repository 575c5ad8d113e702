"""What an open store offers, a module a name: `store.trading`, `store.stats`, `store.audit`."""
