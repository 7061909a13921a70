"""The backend `kernel`: one loop for the CPU, made of the rules themselves by numba, kept on the disk."""
