"""Opening a store, wiring its parts, closing it."""
