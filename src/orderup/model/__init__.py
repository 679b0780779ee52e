"""The nouns of orderup and how they change: pure, without I/O and without a clock of their own."""
