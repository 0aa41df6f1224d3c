"""What several tests need: child processes, memory cgroups for them, and checks for what is left behind."""
