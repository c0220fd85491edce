"""The command ``captum-tgrad``: parsing, files and printing around the Python API."""
