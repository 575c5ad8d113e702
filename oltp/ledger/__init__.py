"""The ledger of writes and batches: what the mirror has claimed, copied, removed and lost."""
