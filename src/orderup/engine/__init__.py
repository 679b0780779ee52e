"""What can be done to operations, a file each."""
