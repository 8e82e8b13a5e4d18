"""System calls, ioctls and file building blocks that the standard library lacks.

Everything here speaks integers and bytes, keeps no policy and reports every failure as an `OSError`
with errno and, if there is one, the path.
"""
