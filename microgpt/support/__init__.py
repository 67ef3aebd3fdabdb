"""What every program needs: command lines, signals, whole files."""
