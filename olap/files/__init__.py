"""The lake's Parquet files: how rows are laid out, written, indexed and decoded."""
