"""The same model in other libraries, to compare speed with. Each is installed on demand."""
