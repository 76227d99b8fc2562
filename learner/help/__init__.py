"""What people's answers to help requests teach: which states are irreversible (PAINT, Xie et al. 2022)."""
