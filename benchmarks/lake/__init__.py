"""The lake beside its peers: the same rows and questions in one run, each contender in a process of its own."""
