"""The shops that come with orderup. They read alike, and none knows another."""
