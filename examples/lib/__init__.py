"""What several examples share, or would make one of them too long."""
