"""What torch's operations add, and where: one record for each, in a file for each family."""
