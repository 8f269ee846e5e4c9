"""A folder per room of the code; what they share is in helpers/, programs are in tools/."""
