"""What a run left behind, in memory and as files."""
