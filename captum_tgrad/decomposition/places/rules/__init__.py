"""Rules for the places of the results of operations, in a file for each family."""
