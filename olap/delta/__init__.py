"""The lake's Delta tables: commits and pins, their log, compaction, vacuum, anchors."""
