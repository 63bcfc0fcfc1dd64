"""The command `flowiq`: what a person starts, sees and reads."""
