"""The attribution methods: what a Captum user constructs."""
