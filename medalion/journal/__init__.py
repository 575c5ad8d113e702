"""What the program says and measures: logs, errors, metrics, how long they stay, and anchors of the audit."""
