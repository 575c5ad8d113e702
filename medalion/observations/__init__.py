"""One read over hot and cold rows: what is asked for, which files and rows hold it, who answers."""
