"""Third parties, a file each."""
