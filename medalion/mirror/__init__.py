"""Hot rows into the lake, exactly once, and the lake's care."""
