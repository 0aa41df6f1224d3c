"""Memory that the kernel may take back."""
