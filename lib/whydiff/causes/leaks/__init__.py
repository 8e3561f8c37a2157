"""What one request leaves behind for the next, in one side by itself."""
