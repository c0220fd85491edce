"""Attribution methods by name, and how to add others."""
