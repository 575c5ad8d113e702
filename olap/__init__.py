"""The lake: Delta tables of Parquet files, and what reads them. Internal: it may change in any version."""
