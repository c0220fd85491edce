"""Attribution methods by name."""
