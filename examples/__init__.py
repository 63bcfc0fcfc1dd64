"""What a user copies; each with its test."""
