"""Files and records of others into rows of a dataset, in bounded memory."""
