"""Where a lake's bytes live: a folder here, or a bucket of an object store."""
