"""What leaves a log, as lessons or whole, and what comes into another."""
