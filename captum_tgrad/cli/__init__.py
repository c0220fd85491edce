"""The command ``captum-tgrad``: arguments, files and output around the Python API."""
